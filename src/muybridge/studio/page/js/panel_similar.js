/** Panel: windows that look like a part of the video, and labels by nearest neighbours; no training is needed. */

import { attempt, formatCount, formatSeconds, make, makeButton, makeField, showNotice } from "./dom.js";
import { describeWeights, makeLoading } from "./weights.js";

const TOP = 24;
const THUMBNAIL_WIDTH = 160;

export class SimilarPanel {
  title = "Similar";

  constructor(studio) {
    this.studio = studio;
    this.windows = [];
    this.shown = null;
    this.models = make("select", { disabled: true }, makeLoading());
    this.state = make("p", {});
    this.make = makeButton("", () => attempt(() => this.startIndex()));
    this.maker = make("details", {}, make("summary", {}, "Index"), makeField("Network", this.models), make("div", { className: "row" }, this.make));
    this.button = makeButton("", () => attempt(() => this.search()), { className: "primary" });
    this.label = make("select", { onchange: () => this.draw() });
    this.labelField = makeField("Mark windows as", this.label);
    this.found = make("p", { className: "faint", role: "status" });
    this.list = make("ul", { className: "list" });
    this.neighbors = makeButton("Label all videos by nearest neighbours", () => attempt(() => this.startNeighbors()));
    this.finder = make(
      "div", { hidden: true },
      make("div", { className: "row" }, this.button), this.labelField, this.found, this.list,
      make("h3", {}, "Labels before any training"),
      make("p", { className: "faint" }, "Every window gets the class that most of the marked windows like it have. The result is a timeline of each video; what it says is suggested under Review."),
      make("div", { className: "row" }, this.neighbors),
    );
    this.element = make("div", {}, this.state, this.maker, this.finder, studio.jobs.makeSection(["index", "neighbors"]));
    for (const source of [studio.marks, studio.classes]) source.addEventListener("change", () => this.draw());
  }

  async load() {
    const { api } = this.studio;
    const [{ index }, { weights }] = await Promise.all([api.get("index"), api.getShared("weights")]);
    const before = this.models.value;
    this.models.disabled = false;
    this.models.replaceChildren(...weights.map((one) => make("option", { value: one.address, title: describeWeights(one) }, one.is_local ? one.title : `${one.title} (downloaded first)`)));
    const wanted = [before, weights.find((one) => one.title.startsWith(index?.model))?.address, weights.find((one) => one.is_local)?.address];
    const chosen = wanted.find((address) => address && weights.some((one) => one.address === address));
    if (chosen) this.models.value = chosen;
    this.showIndex(index);
    this.draw();
  }

  showIndex(index) {
    this.index = index;
    this.finder.hidden = !index;
    this.maker.open = !index || index.num_missing > 0;
    if (!index) {
      this.state.textContent = "Find more of what you see, in all videos, before anything is trained. A network runs once along all videos, and what it computes is kept: the index.";
      this.make.textContent = "Make the index";
      return;
    }
    const missing = index.num_missing ? `; ${index.num_missing} new or changed` : "";
    this.state.textContent = `Index: ${formatCount(index.num_videos, "video")} by the network ${index.model}${missing}.`;
    this.make.textContent = index.num_missing ? "Bring the index up to date" : "Make the index anew with this network";
  }

  async startIndex() {
    this.studio.jobs.update(await this.studio.api.post("index", { model: this.models.value }));
  }

  async startNeighbors() {
    await this.studio.marks.flush();
    this.studio.jobs.update(await this.studio.api.post("neighbor-labels", {}));
  }

  /** The selected segment, else the frame shown. */
  get query() {
    const { marks, player } = this.studio;
    const mark = marks.selected;
    if (mark?.end_seconds !== undefined) return { start_seconds: mark.start_seconds, end_seconds: mark.end_seconds, label: mark.label };
    return { start_seconds: player.seconds, end_seconds: player.seconds, label: null };
  }

  /** Find more like this; also called by its key. */
  async search() {
    const { studio } = this;
    studio.openPanel(this);
    if (!studio.video) return;
    const { label, ...range } = this.query;
    const { windows } = await studio.api.get("similar", { path: studio.video.path, ...range, top: TOP });
    this.windows = windows.map((one) => ({ ...one, marked: one.labels.join(", ") }));
    this.shown = null;
    if (label && studio.classes.find(label)) this.label.value = label;
    const times = range.end_seconds > range.start_seconds ? `${formatSeconds(range.start_seconds)} – ${formatSeconds(range.end_seconds)}` : formatSeconds(range.start_seconds);
    this.found.textContent = windows.length ? `Most like ${studio.video.path}, ${times}:` : "There is no other window in the index.";
    this.draw();
  }

  async show(one) {
    this.shown = one;
    this.draw();
    await this.studio.showRange(one.path, one.start_seconds, one.end_seconds);
  }

  async mark(one) {
    const { studio } = this;
    const label = this.label.value;
    if (!label) {
      showNotice("Name a class under Mark first.");
      return;
    }
    const { path, start_seconds, end_seconds } = one;
    const body = { path, suggested: { label, start_seconds, end_seconds }, decision: "accept", annotator: studio.marks.annotator };
    await studio.decide(body);
    one.marked = [one.marked, label].filter(Boolean).join(", ");
    this.draw();
  }

  draw() {
    const { studio } = this;
    const { query } = this;
    const what = query.end_seconds > query.start_seconds ? "the selected segment" : "this frame";
    this.button.textContent = `Find more like ${what} (f)`;
    this.button.disabled = !studio.video;
    const before = this.label.value;
    const names = studio.classes.list.map((one) => one.name);
    this.label.replaceChildren(...names.map((name) => make("option", { value: name, selected: name === before }, name)));
    this.labelField.hidden = !names.length || !this.windows.length;
    const focus = this.list.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    this.list.replaceChildren(...this.windows.map((one, place) => this.makeItem(one, place)));
    if (focus) [...this.list.querySelectorAll("button")].find((one) => one.dataset.focus === focus)?.focus();
  }

  makeItem(one, place) {
    const seconds = (one.start_seconds + one.end_seconds) / 2;
    const times = `${formatSeconds(one.start_seconds, 1)} – ${formatSeconds(one.end_seconds, 1)}`;
    const picture = make("img", { className: "thumbnail", alt: "", loading: "lazy", src: this.studio.api.link("frame", { path: one.path, seconds: seconds.toFixed(3), max_width: THUMBNAIL_WIDTH }) });
    const text = make("span", { className: "grow" }, make("span", { className: "line" }, one.path), make("span", { className: "line faint" }, times), make("span", { className: "line faint" }, `cosine ${one.similarity.toFixed(3)}`));
    const button = makeButton("", () => attempt(() => this.show(one)), { className: "item pictured", "aria-pressed": String(one === this.shown), "data-focus": `show ${place}` });
    button.append(picture, text);
    const isMarked = one.marked.split(", ").includes(this.label.value);
    const accept = makeButton(isMarked ? "Marked" : "Mark", () => attempt(() => this.mark(one)), { disabled: isMarked, "aria-label": `Mark ${one.path}, ${times}`, "data-focus": `mark ${place}` });
    const row = make("div", { className: "row" }, button, accept);
    return make("li", {}, row, one.marked && !isMarked ? make("div", { className: "faint" }, `marked as ${one.marked}`) : "");
  }
}
