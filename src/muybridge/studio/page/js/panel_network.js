/** Panel: run a network along videos, and choose whose timeline is shown. */

import { request } from "./api.js";
import { attempt, formatCount, make, makeButton, makeField, setText, showNotice } from "./dom.js";
import { makeLoading } from "./weights.js";

export class NetworkPanel {
  title = "Network";

  constructor(studio) {
    this.studio = studio;
    this.models = make("select", { disabled: true, onchange: () => this.drawClasses() }, makeLoading());
    this.classesOf = new Map(); // by the name of a run
    this.one = makeButton("Run along this video", () => attempt(() => this.predict([studio.video.path])), { className: "primary" });
    this.all = makeButton("Run along all videos", () => attempt(() => this.predict(studio.listUsablePaths())));
    this.none = make("p", { className: "faint", hidden: true }, "There is no trained network yet; train one first.");
    this.chosen = make("ul", { className: "list" });
    this.form = make("div", {}, makeField("Network", this.models), make("div", { className: "row" }, this.one, this.all));
    this.why = this.makeWhy();
    this.element = make("div", {}, this.none, this.form, make("h3", {}, "Timelines of this video"), this.chosen, this.why, studio.jobs.makeSection(["predict", "explain"], (job) => studio.why.show(job)));
    for (const source of [studio.prediction, studio.marks, studio.why]) source.addEventListener("change", () => this.draw());
    for (const name of ["position", "open"]) studio.player.addEventListener(name, () => this.drawWhy());
  }

  async load() {
    const { api } = this.studio;
    const [{ weights }, { runs }] = await Promise.all([api.getShared("weights"), api.getShared("runs")]);
    this.classesOf = new Map(runs.map((run) => [run.name, run.classes]));
    const own = weights.filter((one) => one.kind === "run");
    const before = this.models.value;
    const others = weights.filter((one) => one.kind !== "run" && one.is_local);
    this.models.disabled = false;
    this.models.replaceChildren(...[...own, ...others].map((one) => make("option", { value: one.address }, one.title)));
    if ([...this.models.options].some((option) => option.value === before)) this.models.value = before;
    this.form.hidden = !this.models.options.length;
    this.none.hidden = !this.form.hidden;
    this.why.hidden = this.form.hidden;
    this.draw();
  }

  async predict(paths) {
    this.studio.jobs.update(await this.studio.api.post("predictions", { model: this.models.value, paths }));
  }

  draw() {
    const { prediction, video } = this.studio;
    for (const button of [this.one, this.all]) button.disabled = !video || this.models.disabled;
    const focus = this.chosen.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    this.chosen.replaceChildren(...prediction.list.map((one) => this.makeItem(one)));
    if (!prediction.list.length) this.chosen.append(make("li", { className: "faint" }, "None yet."));
    if (focus) [...this.chosen.querySelectorAll("button")].find((one) => one.dataset.focus === focus)?.focus();
    this.drawClasses();
    this.drawWhy();
  }

  // ---- why

  makeWhy() {
    const { studio } = this;
    this.label = make("select", {});
    this.ask = makeButton("", () => attempt(() => this.explain()));
    this.hide = makeButton("Hide", () => studio.why.clear());
    this.answer = make("p", { role: "status" });
    return make(
      "div", { hidden: true },
      make("h3", {}, "Why"),
      make("p", { className: "faint" }, "Where in the picture and when the network sees a class (Grad-CAM): as colour over the video, and as a curve below the timeline."),
      makeField("Class", this.label), make("div", { className: "row" }, this.ask, this.hide), this.answer,
    );
  }

  /** The classes that can be asked about: those of the network that would explain. */
  drawClasses() {
    const before = this.label.value;
    const name = (this.ownNetwork ?? this.models.value).split("/").at(-1);
    const labels = this.ownNetwork ? this.studio.prediction.chosen.classes : (this.classesOf.get(name) ?? []);
    this.label.replaceChildren(make("option", { value: "" }, "What the network finds there"), ...labels.map((label) => make("option", { value: label, selected: label === before }, label)));
  }

  /** The network of the timeline shown, where it is at hand; labels by nearest neighbours have none. */
  get ownNetwork() {
    const name = this.studio.prediction.chosen?.model;
    return [...this.models.options].find(({ value }) => name && (value === name || value.endsWith(`/${name}`)))?.value;
  }

  /** Explain what is selected or shown; also called by its key. */
  async explain() {
    const { studio } = this;
    studio.openPanel(this);
    if (!studio.video) return;
    if (this.models.disabled) await this.load(); // the key was pressed before the networks were known
    const network = this.ownNetwork ?? this.models.value;
    if (!network) {
      showNotice("There is no trained network yet; train one first.");
      return;
    }
    const predicted = this.ownNetwork ? studio.why.query.label : null;
    await studio.why.ask(network, this.label.value || predicted);
  }

  drawWhy() {
    const { why, video, jobs } = this.studio;
    setText(this.ask, `Why ${why.query.what}? (w)`);
    this.ask.disabled = !video || this.models.disabled;
    this.hide.disabled = !why.shown;
    const pending = jobs.list.find((job) => job.id === why.pending);
    const progress = pending && `Being computed… ${Math.round(100 * (pending.progress ?? 0))} %`;
    setText(this.answer, progress ?? (why.shown ? why.describe() : ""));
  }

  makeItem(one) {
    const { prediction } = this.studio;
    const isChosen = prediction.chosen?.id === one.id;
    const when = new Date(one.created).toLocaleString();
    const button = makeButton("", () => prediction.choose(isChosen ? null : one.id), { className: "item", "aria-pressed": String(isChosen), "data-focus": one.id });
    const stale = one.stale ? `; out of date: the ${one.video_changed ? "video" : "network"} changed` : "";
    button.append(make("div", {}, one.model), make("div", { className: "faint" }, `${when}, ${formatCount(one.num_windows, "window")}${stale}`));
    const remove = makeButton("Delete", () => attempt(() => this.remove(one)), { className: "danger", "aria-label": `Delete the timeline of ${one.model}`, "data-focus": `delete ${one.id}` });
    return make("li", {}, make("div", { className: "row" }, make("span", { className: "grow" }, button), remove));
  }

  async remove(one) {
    if (!confirm(`Delete the timeline of ${one.model} along ${one.path}? Running the network again makes it anew.`)) return;
    const { studio } = this;
    await request("DELETE", `predictions/${encodeURIComponent(one.id)}`);
    await studio.prediction.load(studio.api, studio.video.path);
    await studio.review.refresh();
  }
}
