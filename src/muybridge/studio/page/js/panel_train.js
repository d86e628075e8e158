/** Panel: what would be trained on, the form, and the progress of runs. */

import { attempt, formatCount, make, makeButton, makeField } from "./dom.js";
import { drawProgress } from "./curves.js";
import { describeWeights, makeLoading } from "./weights.js";

const NUMBERS = [
  ["epochs", "Epochs", "0.1"],
  ["learning_rate", "Learning rate", "any"],
  ["batch_size", "Clips in a batch", "1"],
  ["clips_per_epoch", "Clips in an epoch", "1"],
  ["frozen_stages", "Frozen stages", "1"],
  ["width", "Width of the network", "1"],
  ["clip_length", "Frames in a clip", "1"],
  ["frame_stride", "Every how many frames", "1"],
  ["crop", "Side of the crop in pixels", "1"],
  ["workers", "Processes that read videos", "1"],
];

export class TrainPanel {
  title = "Train";

  constructor(studio) {
    this.studio = studio;
    this.weights = make("select", { required: true, disabled: true, onchange: () => this.describe() }, makeLoading());
    this.weightsNote = make("p", { className: "faint" });
    this.name = make("input", { type: "text", required: true, maxLength: 100, pattern: "[A-Za-z0-9_.\\-]+" });
    this.background = make("input", { type: "checkbox", onchange: () => attempt(() => this.loadData()) });
    this.data = make("div", {});
    this.numbers = new Map(NUMBERS.map(([key, , step]) => [key, make("input", { type: "number", min: "0", step })]));
    this.model = make("input", { type: "text", placeholder: "r2plus1d_18" });
    this.modelField = makeField("Network, from random weights", this.model);
    this.height = make("input", { type: "number", min: "1", step: "1" });
    this.breadth = make("input", { type: "number", min: "1", step: "1" });
    this.mirror = make("select", {}, make("option", { value: "" }, "as the weights suggest"), make("option", { value: "true" }, "yes"), make("option", { value: "false" }, "no: left and right differ"));
    this.start = make("button", { type: "submit", className: "primary" }, "Train");
    this.runs = make("select", { onchange: () => attempt(() => this.loadMetrics()) });
    this.runsField = makeField("Run", this.runs);
    this.plots = make("div", {});
    this.progress = make("div", { hidden: true }, make("h3", {}, "Progress"), this.runsField, this.plots);
    this.form = this.makeForm();
    this.element = make("div", {}, this.data, this.form, studio.jobs.makeSection(["train"]), this.progress);
  }

  makeForm() {
    const fields = NUMBERS.map(([key, title]) => makeField(title, this.numbers.get(key)));
    const size = [makeField("Height of frames", this.height), makeField("Width of frames", this.breadth)];
    const more = make("details", {}, make("summary", {}, "More settings; what is empty is chosen for you"), this.modelField, makeField("Mirrored clips", this.mirror), ...fields, ...size);
    const background = make("label", { className: "check" }, this.background, make("span", {}, "Watched time without a mark is a class: background"));
    const form = make("form", {}, makeField("Start from", this.weights), this.weightsNote, makeField("Name of the run", this.name), background, more, make("div", { className: "row" }, this.start));
    form.onsubmit = (event) => {
      event.preventDefault();
      attempt(() => this.submit());
    };
    return form;
  }

  /** What was chosen is of another project. */
  forget() {
    this.isLoaded = false;
  }

  get isShown() {
    return !this.element.closest("[hidden]");
  }

  async load() {
    await Promise.all([this.loadWeights(), this.loadData(), this.loadRuns()]);
  }

  async loadWeights() {
    const { weights } = await this.studio.api.getShared("weights");
    this.list = weights;
    const before = this.isLoaded ? this.weights.value : null; // "" is a choice as well
    this.isLoaded = true;
    const group = (title, kind) => {
      const options = weights.filter((one) => one.kind === kind).map((one) => make("option", { value: one.address }, one.title));
      return options.length ? [make("optgroup", { label: title }, ...options)] : [];
    };
    const random = make("option", { value: "" }, "Random weights (needs thousands of segments)");
    this.weights.replaceChildren(...group("Own runs", "run"), ...group("Catalogue", "catalogue"), random);
    this.weights.disabled = false;
    this.weights.selectedIndex = 0;
    if (before !== null && [...this.weights.options].some((option) => option.value === before)) this.weights.value = before;
    this.describe();
    this.updateStart();
  }

  updateStart() {
    this.start.disabled = this.weights.disabled || this.hasProblems;
  }

  describe() {
    const chosen = this.list.find((one) => one.address === this.weights.value);
    this.modelField.hidden = Boolean(chosen);
    this.weightsNote.textContent = chosen ? describeWeights(chosen) : "Few segments from random weights stay near chance.";
  }

  async loadData() {
    const data = await this.studio.api.get("training-data", { background: this.background.checked });
    const counts = data.classes.map((one) => `${one.label} ${one.num_segments}`).join(", ");
    const summary = data.num_segments ? `${formatCount(data.num_segments, "segment")} in ${formatCount(data.num_videos, "video")}: ${counts}` : "No segments are marked yet.";
    const lines = [make("p", {}, summary)];
    const addLine = (className, text) => lines.push(make("p", { className }, text[0].toUpperCase() + text.slice(1)));
    for (const text of data.problems) addLine("problem", text);
    for (const text of data.warnings) addLine("faint", text);
    this.data.replaceChildren(...lines);
    this.hasProblems = data.problems.length > 0;
    this.updateStart();
  }

  async loadRuns() {
    const { runs } = await this.studio.api.getShared("runs");
    const before = this.runs.value;
    this.runs.replaceChildren(...runs.map((run) => make("option", { value: run.name }, [run.name, run.unfinished || run.state, run.validation && `${run.validation} on validation`].filter(Boolean).join(" · "))));
    if (runs.some((run) => run.name === before)) this.runs.value = before;
    this.progress.hidden = !runs.length;
    if (!this.name.value || runs.some((run) => run.name === this.name.value)) this.name.value = this.proposeName(runs);
    await this.loadMetrics();
  }

  proposeName(runs) {
    let number = runs.length + 1;
    while (runs.some((run) => run.name === `run_${number}`)) number += 1;
    return `run_${number}`;
  }

  async loadMetrics() {
    const name = this.runs.value;
    if (!name) return this.plots.replaceChildren();
    const metrics = await this.studio.api.get(`runs/${encodeURIComponent(name)}/metrics`).catch(() => null);
    if (!metrics || this.runs.value !== name || !this.isShown) return;
    drawProgress(this.plots, metrics);
    if (!this.plots.children.length) this.plots.append(make("p", { className: "faint" }, "Nothing is measured yet."));
  }

  async submit() {
    const body = { name: this.name.value, init: this.weights.value || null, background: this.background.checked };
    for (const [key, input] of this.numbers) if (input.value !== "") body[key] = Number(input.value);
    if (!body.init && this.model.value) body.model = this.model.value.trim();
    if (this.height.value && this.breadth.value) body.scale = [Number(this.height.value), Number(this.breadth.value)];
    if (this.mirror.value) body.mirror = this.mirror.value === "true";
    await this.studio.marks.flush();
    this.studio.jobs.update(await this.studio.api.post("trainings", body));
    this.wanted = body.name;
    await this.loadRuns();
  }

  /** A training went on: show its curves, and its weights where it is done. */
  async follow(job) {
    const isKnown = [...this.runs.options].some((option) => option.value === job.run);
    if (!isKnown || job.state !== "running") await this.loadRuns();
    if (this.wanted === job.run && [...this.runs.options].some((option) => option.value === job.run)) {
      this.runs.value = job.run;
      this.wanted = null;
    }
    if (this.runs.value === job.run) await this.loadMetrics();
    if (job.state === "done") await this.loadWeights();
  }
}
