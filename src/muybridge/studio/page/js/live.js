/** The live view of `muybridge watch --page`: what the WebSocket sends, as picture, bars, curves and events. */

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { PALETTE } from "./classes.js";
import { find, formatSeconds, make, makeSwatch } from "./dom.js";
import { readColors } from "./lanes.js";

const SHOWN_SECONDS = 60;
const MAX_CURVES = 8;
const MAX_BARS = 6;
const MAX_EVENTS = 100;
const CURVES_HEIGHT = 150;

class LiveView {
  constructor() {
    this.hello = { classes: [] };
    this.windows = [];
    this.hasEnded = false;
    this.picture = find("live-picture");
    this.pause = find("live-pause");
    this.pause.onclick = () => {
      this.pause.setAttribute("aria-pressed", String(!this.isPaused));
      this.draw();
    };
    new ResizeObserver(() => this.drawCurves()).observe(find("live-curves"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.connect();
  }

  get isPaused() {
    return this.pause.getAttribute("aria-pressed") === "true";
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/live`);
    socket.binaryType = "blob";
    let isOpen = false;
    socket.onopen = () => (isOpen = true);
    socket.onmessage = ({ data }) => (data instanceof Blob ? this.showPicture(data) : this.receive(JSON.parse(data)));
    socket.onclose = ({ reason }) => {
      if (this.hasEnded) return;
      if (isOpen) this.showState(reason || "The command has ended, or does not answer.", true);
      else this.showState("There is no stream here: start `muybridge watch SOURCE --model RUN --page 0` and open the address that it prints.", true);
      if (isOpen) setTimeout(() => this.connect(), 2000);
    };
  }

  receive(message) {
    if (message.type === "hello") this.start(message);
    else if (message.type === "window") this.addWindow(message);
    else if (message.type === "event") this.addEvent(message);
    else if (message.type === "connection") this.showState(message.detail, true);
    else if (message.type === "summary") {
      this.hasEnded = true;
      this.showCounts(message);
      this.showState("The stream has ended.", false);
    }
  }

  start(hello) {
    this.hello = hello;
    this.windows = [];
    find("live-source").textContent = `${hello.source}, by ${hello.model}`;
    document.title = `${hello.source}: live`;
    find("live-events").replaceChildren(make("li", { className: "faint" }, "None yet."));
    this.showState("Live", false);
  }

  showState(text, isProblem) {
    const state = find("live-state");
    state.textContent = text;
    state.className = isProblem ? "problem" : "faint";
  }

  showPicture(blob) {
    if (this.isPaused) return;
    const before = this.picture.src;
    this.picture.src = URL.createObjectURL(blob);
    this.picture.hidden = false;
    find("screen-note").textContent = "";
    if (before) URL.revokeObjectURL(before);
  }

  addWindow(one) {
    this.showState("Live", false);
    this.windows.push({ seconds: (one.start_seconds + one.end_seconds) / 2, probabilities: new Map(one.classes.map(({ label, probability }) => [label, probability])) });
    const start = one.end_seconds - SHOWN_SECONDS - 1;
    this.windows = this.windows.filter((window) => window.seconds >= start && window.seconds <= one.end_seconds);
    this.last = one;
    this.showCounts(one);
    this.draw();
  }

  addEvent(event) {
    const list = find("live-events");
    if (list.firstChild?.className === "faint") list.replaceChildren();
    const verb = event.kind === "start" ? "begins" : "ends";
    const share = event.probability === undefined ? "" : `, ${Math.round(100 * event.probability)} %`;
    const item = make("li", {}, makeSwatch(this.colorOf(event.label)), `${event.label} ${verb} `, make("span", { className: "faint" }, `${formatSeconds(event.seconds, 1)}${share}`));
    list.prepend(item);
    while (list.children.length > MAX_EVENTS) list.lastChild.remove();
  }

  showCounts(values) {
    const rows = [
      ["Delay", values.delay_seconds === undefined ? `${milliseconds(values.median_delay_seconds)}, at most ${milliseconds(values.max_delay_seconds)}` : milliseconds(values.delay_seconds)],
      ["Windows", values.num_windows],
      ["Skipped windows", values.num_skipped_windows],
      ["Dropped frames", values.num_dropped_frames],
      ["Damaged frames", values.num_damaged_frames],
      ["Reconnections", values.num_reconnects],
    ];
    find("live-counts").replaceChildren(...rows.map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", {}, String(value)))));
  }

  colorOf(label) {
    return PALETTE[Math.max(0, this.hello.classes.indexOf(label)) % PALETTE.length];
  }

  draw() {
    if (this.isPaused || !this.last) return;
    const bars = this.last.classes.slice(0, MAX_BARS).map(({ label, probability }) => {
      const percent = Math.round(100 * probability);
      const bar = make("span", { className: "bar" });
      bar.style.width = `${percent}%`;
      bar.style.background = this.colorOf(label);
      return make("li", {}, make("div", { className: "row" }, make("span", { className: "grow" }, label), `${percent} %`), make("div", { className: "track" }, bar));
    });
    find("live-classes").replaceChildren(...bars);
    this.drawCurves();
  }

  /** The classes that were highest within the last minute. */
  listCurves() {
    const peaks = new Map();
    for (const { probabilities } of this.windows) {
      for (const [label, value] of probabilities) peaks.set(label, Math.max(value, peaks.get(label) ?? 0));
    }
    const labels = [...peaks.keys()].sort((a, b) => peaks.get(b) - peaks.get(a)).slice(0, MAX_CURVES);
    return labels.sort((a, b) => this.hello.classes.indexOf(a) - this.hello.classes.indexOf(b));
  }

  drawCurves() {
    const container = find("live-curves");
    if (this.isPaused || !this.windows.length) return;
    const labels = this.listCurves();
    const end = this.last.end_seconds;
    const data = [this.windows.map((one) => one.seconds), ...labels.map((label) => this.windows.map((one) => one.probabilities.get(label) ?? null))];
    const key = `${labels.join("\n")} ${container.clientWidth} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
    if (key !== this.key) {
      this.key = key;
      this.plot?.destroy();
      this.plot = new uPlot(this.describe(labels, container.clientWidth), data, container);
      find("live-legend").replaceChildren(...labels.map((label) => make("span", {}, makeSwatch(this.colorOf(label)), label)));
    } else this.plot.setData(data, false);
    this.plot.setScale("x", { min: Math.max(0, end - SHOWN_SECONDS), max: Math.max(end, 5) });
  }

  describe(labels, width) {
    const { faint, line } = readColors();
    const grid = { stroke: line, width: 1 };
    return {
      width,
      height: CURVES_HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, auto: false }, y: { range: [0, 1] } },
      axes: [
        { stroke: faint, grid, ticks: { show: false }, size: 28, values: (plot, splits) => splits.map((one) => formatSeconds(one, 0)) },
        { size: 56, stroke: faint, grid, ticks: { show: false }, splits: () => [0, 0.5, 1], values: () => ["0 %", "50 %", "100 %"] },
      ],
      series: [{}, ...labels.map((label) => ({ label, stroke: this.colorOf(label), width: 2, points: { show: false } }))],
    };
  }
}

const milliseconds = (seconds) => `${Math.round(1000 * seconds)} ms`;

new LiveView();
