/** Curves by uPlot: probabilities above the timeline, and the progress of a training. */

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { find } from "./dom.js";
import { gutterOf, readColors } from "./lanes.js";

const HEIGHT = 110;
const FEW_POINTS = 30; // drawn as such

/** The probabilities of classes; its x scale is the timeline's view. */
export class ProbabilityCurves {
  constructor(timeline, prediction, classes) {
    Object.assign(this, { timeline, prediction, classes });
    this.container = find("curves");
    this.plot = null;
    this.shown = null;
    prediction.addEventListener("change", () => this.update());
    classes.addEventListener("change", () => this.rebuild());
    timeline.addEventListener("view", () => this.move());
    new ResizeObserver(() => this.resize()).observe(this.container);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
    this.update();
  }

  move() {
    const { start, end } = this.timeline.view;
    this.plot?.setScale("x", { min: start, max: end });
    this.prediction.show(this.timeline.view, this.timeline.plotWidth);
  }

  resize() {
    const width = this.container.clientWidth;
    if (this.plot && width !== this.plot.width) this.rebuild();
  }

  rebuild() {
    this.shown = null;
    this.update();
  }

  update() {
    const curves = this.prediction.curves;
    this.container.toggleAttribute("data-empty", !this.prediction.chosen);
    if (this.prediction.chosen && !curves) this.prediction.show(this.timeline.view, this.timeline.plotWidth);
    if (curves === this.shown) return;
    this.shown = curves;
    this.plot?.destroy();
    this.plot = null;
    if (!curves || !curves.seconds.length) return;
    const data = [curves.seconds, ...curves.curves.map((curve) => curve.probabilities)];
    this.plot = new uPlot(this.describe(curves), data, this.container);
    this.placeView();
  }

  placeView() {
    const { start, end } = this.timeline.view;
    this.plot.setScale("x", { min: start, max: end });
  }

  describe(curves) {
    const { faint, line } = readColors();
    const gutter = gutterOf(this.container.clientWidth);
    const grid = { stroke: line, width: 1 };
    return {
      width: this.container.clientWidth,
      height: HEIGHT,
      padding: [8, 0, 8, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, auto: false }, y: { range: [0, 1] } },
      axes: [
        { show: false },
        { size: gutter, stroke: faint, grid, ticks: { show: false }, splits: () => [0, 0.5, 1], values: () => ["0 %", "50 %", "100 %"] },
      ],
      series: [{}, ...curves.curves.map(({ label }) => ({ label, stroke: this.classes.colorOf(label), width: 1.5, points: { show: curves.seconds.length < FEW_POINTS, size: 5, fill: this.classes.colorOf(label) } }))],
    };
  }
}

/** Join the points of several series of (step, value) at common steps. */
function joinSteps(series) {
  const steps = [...new Set(series.flatMap((one) => one.points.map(([step]) => step)))].sort((a, b) => a - b);
  const columns = series.map((one) => {
    const values = new Map(one.points);
    return steps.map((step) => values.get(step) ?? null);
  });
  return [steps, ...columns];
}

/** Draw the progress of a training into a container: loss above, accuracies below. */
export function drawProgress(container, metrics) {
  const pick = (rows, key) => rows.filter((row) => typeof row[key] === "number").map((row) => [row.step, row[key]]);
  const { accent, text } = readColors();
  const charts = [
    ["Loss", [{ label: "training", stroke: accent, points: pick(metrics.train, "loss") }]],
    [
      "Accuracy",
      [
        { label: "training clips", stroke: accent, points: pick(metrics.train, "clip_accuracy") },
        { label: "validation videos", stroke: text, points: pick(metrics.validation, "video_top1") },
      ],
    ],
  ];
  container.replaceChildren();
  for (const [title, series] of charts) drawChart(container, title, series.filter((one) => one.points.length));
}

function drawChart(container, title, series) {
  if (!series.length) return;
  const { faint, line } = readColors();
  const axis = { stroke: faint, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const options = {
    title,
    width: container.clientWidth,
    height: 160,
    cursor: { show: false },
    legend: { live: false },
    scales: { x: { time: false } },
    axes: [{ ...axis, size: 30 }, { ...axis, size: 46 }],
    series: [{ label: "step" }, ...series.map(({ label, stroke }) => ({ label, stroke, width: 2, spanGaps: true, points: { show: true, size: 4 } }))],
  };
  new uPlot(options, joinSteps(series), container);
}
