/** Panel: the classes with their keys, and the marks of the open video. */

import { attempt, formatCount, formatSeconds, make, makeButton, makeField, makeSwatch } from "./dom.js";

const MAX_SHOWN = 200;

export class MarksPanel {
  title = "Mark";

  constructor(studio) {
    this.studio = studio;
    this.edited = null;
    this.name = make("input", { type: "text", maxLength: 100, placeholder: "New class, e.g. walking", "aria-label": "Name of a new class" });
    this.form = make("form", { className: "row" }, make("span", { className: "grow" }, this.name), make("button", { type: "submit" }, "Add class"));
    this.name.style.width = "100%";
    this.form.onsubmit = (event) => {
      event.preventDefault();
      attempt(() => this.addClass());
    };
    this.classes = make("ul", { className: "list" });
    this.reviewButton = makeButton("", () => attempt(() => studio.toggleReview()));
    this.reviewAll = makeButton("Watched it all", () => studio.marks.addReview(0, studio.timeline.duration));
    this.annotator = make("input", { type: "text", maxLength: 100 });
    this.annotator.onchange = () => studio.setAnnotator(this.annotator.value.trim());
    this.undo = makeButton("Undo", () => studio.marks.undo());
    this.redo = makeButton("Redo", () => studio.marks.redo());
    this.selection = make("div", {});
    this.count = make("p", { className: "faint" });
    this.list = make("ul", { className: "list" });
    this.element = make(
      "div", {},
      this.form, this.classes,
      make("div", { className: "row" }, this.reviewButton, this.reviewAll),
      make("div", { className: "row" }, this.undo, this.redo),
      this.selection,
      make("h3", {}, "Marks of this video"), this.count, this.list,
      makeField("Annotator, written beside each mark", this.annotator),
    );
    studio.classes.addEventListener("change", () => this.draw());
    studio.marks.addEventListener("change", () => this.draw());
  }

  async addClass() {
    const name = this.name.value.trim();
    if (!name) return;
    await this.studio.classes.add(name);
    this.name.value = "";
  }

  load() {
    this.draw();
  }

  /** Rows of marks are made where they are seen only: with thousands of marks they take longer than all else. */
  draw() {
    if (this.element.closest("[hidden]")) return;
    const { marks, classes, video } = this.studio;
    this.annotator.value = marks.annotator;
    const focus = document.activeElement?.dataset?.focus;
    this.classes.replaceChildren(...classes.list.map((one) => this.makeClass(one)));
    this.reviewButton.textContent = marks.openReview === null ? "Watched from here (x)" : "Watched until here (x)";
    for (const button of [this.reviewButton, this.reviewAll]) button.disabled = !video;
    this.undo.disabled = !marks.past.length;
    this.redo.disabled = !marks.future.length;
    this.selection.replaceChildren(...(marks.selected ? [this.makeSelection(marks.selected)] : []));
    this.list.replaceChildren(...this.listMarks().map((mark) => this.makeMark(mark)));
    if (!this.list.children.length) this.list.append(make("li", { className: "faint" }, "None yet. Play, press the key of a class where it starts, and again where it ends."));
    if (focus) [...this.element.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === focus)?.focus();
  }

  listMarks() {
    const { segments, events, reviewed } = this.studio.marks.document;
    const start = (mark) => mark.start_seconds ?? mark.time_seconds;
    const all = [...segments, ...events, ...reviewed].sort((a, b) => start(a) - start(b));
    const next = all.findIndex((mark) => start(mark) >= this.studio.player.seconds);
    const first = Math.max(0, Math.min((next < 0 ? all.length : next) - MAX_SHOWN / 2, all.length - MAX_SHOWN));
    this.count.textContent = all.length > MAX_SHOWN ? `${MAX_SHOWN} of ${formatCount(all.length, "mark")}, around the playhead` : "";
    return all.slice(first, first + MAX_SHOWN);
  }

  makeClass(one) {
    const { marks, video } = this.studio;
    const isOpen = marks.open.has(one.name);
    const mark = makeButton(isOpen ? "End" : "Start", () => attempt(() => this.studio.markClass(one.name, false)), { disabled: !video, "aria-pressed": String(isOpen), "aria-label": `${isOpen ? "End" : "Start"} ${one.name}`, "data-focus": `start ${one.name}` });
    const event = makeButton("Event", () => attempt(() => this.studio.markClass(one.name, true)), { disabled: !video, "aria-label": `Event ${one.name}`, "data-focus": `event ${one.name}` });
    const edit = makeButton("Edit", () => this.edit(one.name), { "aria-label": `Edit ${one.name}`, "aria-expanded": String(this.edited === one.name), "data-focus": `edit ${one.name}` });
    const title = make("span", { className: "grow" }, makeSwatch(one.color), one.name, " ", one.key ? make("kbd", {}, one.key) : "");
    const item = make("li", {}, make("div", { className: "row" }, title, mark, event, edit));
    if (this.edited === one.name) item.append(this.makeEditor(one));
    return item;
  }

  edit(name) {
    this.edited = this.edited === name ? null : name;
    this.draw();
  }

  makeEditor(one) {
    const { classes } = this.studio;
    const change = (values) => attempt(() => classes.restyle(one.name, values)).then(() => this.draw());
    const color = make("input", { type: "color", value: one.color, "aria-label": "Colour", onchange: () => change({ color: color.value }) });
    const key = make("input", { className: "key", type: "text", maxLength: 1, value: one.key ?? "", "aria-label": "Key", onchange: () => change({ key: key.value.toLowerCase() || null }) });
    const name = make("input", { type: "text", maxLength: 100, value: one.name, "aria-label": "Name; that of another class merges both" });
    name.onchange = () => attempt(() => this.rename(one.name, name.value.trim()));
    const remove = makeButton("Delete", () => attempt(() => this.remove(one)), { className: "danger", "aria-label": `Delete ${one.name}` });
    return make("div", { className: "row" }, color, key, name, remove);
  }

  async rename(name, newName) {
    const { classes } = this.studio;
    if (!newName || newName === name) return;
    if (classes.find(newName) && !confirm(`Merge ${name} into ${newName}, in all videos? This cannot be undone.`)) return this.draw();
    await this.studio.marks.flush();
    this.edited = null;
    await classes.rename(name, newName);
  }

  async remove(one) {
    const number = one.num_segments + one.num_events;
    if (number && !confirm(`Delete ${one.name} and its ${formatCount(number, "mark")}, in all videos? This cannot be undone.`)) return;
    await this.studio.marks.flush();
    this.edited = null;
    await this.studio.classes.delete(one.name);
  }

  makeSelection(mark) {
    const { marks, classes } = this.studio;
    const isSegment = mark.start_seconds !== undefined;
    const row = make("div", { className: "row" });
    if (mark.label) {
      const options = classes.list.map((one) => make("option", { value: one.name, selected: one.name === mark.label }, one.name));
      const select = make("select", { "aria-label": "Class of the selected mark", "data-focus": "label" }, ...options);
      select.onchange = () => marks.revise(mark, { label: select.value });
      row.append(select);
    }
    if (isSegment) {
      row.append(makeButton("Start here (i)", () => attempt(() => this.studio.setEdge("start_seconds")), { "data-focus": "i" }));
      row.append(makeButton("End here (o)", () => attempt(() => this.studio.setEdge("end_seconds")), { "data-focus": "o" }));
    }
    row.append(makeButton("Delete mark", () => marks.deleteSelected(), { className: "danger" }));
    return make("div", {}, make("h3", {}, "Selected"), make("div", { className: "faint" }, this.describe(mark)), row);
  }

  describe(mark) {
    const times = mark.time_seconds === undefined ? `${formatSeconds(mark.start_seconds)} to ${formatSeconds(mark.end_seconds)}` : `at ${formatSeconds(mark.time_seconds)}`;
    return [times, mark.annotator, mark.origin].filter(Boolean).join(" · ");
  }

  makeMark(mark) {
    const { marks, classes } = this.studio;
    const label = mark.label ?? "watched";
    const times = mark.time_seconds === undefined ? `${formatSeconds(mark.start_seconds)} – ${formatSeconds(mark.end_seconds)}` : formatSeconds(mark.time_seconds);
    const button = makeButton("", () => attempt(() => this.studio.showMark(mark)), { className: "item", "aria-pressed": String(mark === marks.selected), "data-focus": `${label} ${times}` });
    button.append(mark.label ? makeSwatch(classes.colorOf(label)) : "", `${label} `, make("span", { className: "faint" }, times));
    return make("li", {}, button);
  }
}
