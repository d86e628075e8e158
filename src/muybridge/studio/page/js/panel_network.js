/** Panel: run a network along videos, and choose whose timeline is shown. */

import { request } from "./api.js";
import { attempt, formatCount, make, makeButton, makeField } from "./dom.js";
import { makeLoading } from "./weights.js";

export class NetworkPanel {
  title = "Network";

  constructor(studio) {
    this.studio = studio;
    this.models = make("select", { disabled: true }, makeLoading());
    this.one = makeButton("Run along this video", () => attempt(() => this.predict([studio.video.path])), { className: "primary" });
    this.all = makeButton("Run along all videos", () => attempt(() => this.predict(studio.listUsablePaths())));
    this.none = make("p", { className: "faint", hidden: true }, "There is no trained network yet; train one first.");
    this.chosen = make("ul", { className: "list" });
    this.form = make("div", {}, makeField("Network", this.models), make("div", { className: "row" }, this.one, this.all));
    this.element = make("div", {}, this.none, this.form, make("h3", {}, "Timelines of this video"), this.chosen, studio.jobs.makeSection(["predict"]));
    studio.prediction.addEventListener("change", () => this.draw());
  }

  async load() {
    const { weights } = await this.studio.api.get("weights");
    const own = weights.filter((one) => one.kind === "run");
    const before = this.models.value;
    const others = weights.filter((one) => one.kind !== "run" && one.is_local);
    this.models.disabled = false;
    this.models.replaceChildren(...[...own, ...others].map((one) => make("option", { value: one.address }, one.title)));
    if ([...this.models.options].some((option) => option.value === before)) this.models.value = before;
    this.form.hidden = !this.models.options.length;
    this.none.hidden = !this.form.hidden;
    this.draw();
  }

  async predict(paths) {
    this.studio.jobs.update(await this.studio.api.post("predictions", { model: this.models.value, paths }));
  }

  draw() {
    const { prediction, video } = this.studio;
    this.one.disabled = !video;
    const focus = this.chosen.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    this.chosen.replaceChildren(...prediction.list.map((one) => this.makeItem(one)));
    if (!prediction.list.length) this.chosen.append(make("li", { className: "faint" }, "None yet."));
    if (focus) [...this.chosen.querySelectorAll("button")].find((one) => one.dataset.focus === focus)?.focus();
  }

  makeItem(one) {
    const { prediction } = this.studio;
    const isChosen = prediction.chosen?.id === one.id;
    const when = new Date(one.created).toLocaleString();
    const button = makeButton("", () => prediction.choose(isChosen ? null : one.id), { className: "item", "aria-pressed": String(isChosen), "data-focus": one.id });
    const stale = one.stale ? "; out of date: the network or the video changed" : "";
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
