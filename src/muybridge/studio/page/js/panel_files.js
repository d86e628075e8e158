/** Annotations from and to the files of other tools, and the agreement of two annotators. */

import { attempt, formatCount, make, makeButton, makeField } from "./dom.js";

const FORMATS = [
  ["csv", "CSV of Muybridge"],
  ["boris", "BORIS"],
  ["elan", "ELAN"],
  ["label_studio", "Label Studio"],
  ["createml", "Create ML"],
  ["via", "VIA"],
  ["activitynet", "ActivityNet"],
];
const OF_ONE_VIDEO = "elan";

export class FilesPanel {
  title = "Files";

  constructor(studio) {
    this.studio = studio;
    this.format = make("select", {}, ...FORMATS.map(([value, text]) => make("option", { value }, text)));
    this.onlyOpen = make("input", { type: "checkbox" });
    this.file = make("input", { type: "file", onchange: () => attempt(() => this.import()) });
    this.result = make("div", { role: "status" });
    this.first = make("select", { onchange: () => attempt(() => this.compare()) });
    this.second = make("select", { onchange: () => attempt(() => this.compare()) });
    this.pair = make("div", {}, makeField("First annotator", this.first), makeField("Second annotator", this.second));
    this.agreement = make("div", {});
    this.element = make(
      "div", {},
      makeField("Format", this.format),
      make("label", { className: "check" }, this.onlyOpen, make("span", {}, "Only the open video")),
      make("div", { className: "row" }, makeButton("Export", () => attempt(() => this.export()))),
      makeField("Import a file of this format", this.file),
      this.result,
      make("h3", {}, "Agreement of two annotators"), this.pair, this.agreement,
    );
  }

  get path() {
    return this.onlyOpen.checked || this.format.value === OF_ONE_VIDEO ? (this.studio.video?.path ?? null) : null;
  }

  async export() {
    await this.studio.marks.flush();
    make("a", { href: this.studio.api.link("export", { format: this.format.value, path: this.path }), download: "" }).click();
  }

  async import() {
    const { api, marks } = this.studio;
    const [file] = this.file.files;
    if (!file) return;
    await marks.flush();
    const form = new FormData();
    form.append("file", file);
    form.append("format", this.format.value);
    form.append("annotator", marks.annotator);
    if (this.path) form.append("path", this.path);
    this.result.replaceChildren();
    try {
      this.showImported(await api.post("import", form));
    } finally {
      this.file.value = "";
    }
    await this.studio.classes.load(api);
    await marks.reload(null);
    await this.load();
  }

  showImported(answer) {
    const lines = [make("p", {}, `Imported: ${formatCount(answer.num_segments, "segment")}, ${formatCount(answer.num_events, "event")}.`)];
    if (answer.classes_added.length) lines.push(make("p", {}, `New classes: ${answer.classes_added.join(", ")}.`));
    const skipped = answer.skipped.map((one) => make("li", {}, `${one.name}: ${one.reason}`));
    if (skipped.length) lines.push(make("p", { className: "problem" }, "Left out:"), make("ul", {}, ...skipped));
    this.result.replaceChildren(...lines);
  }

  async load() {
    const { annotators } = await this.studio.api.get("agreement");
    this.pair.hidden = annotators.length < 2;
    if (annotators.length < 2) {
      this.agreement.replaceChildren(make("p", { className: "faint" }, "It needs marks of two annotators in the same video."));
      return;
    }
    [this.first, this.second].forEach((select, place) => {
      const before = select.value || annotators[place];
      select.replaceChildren(...annotators.map((name) => make("option", { value: name, selected: name === before }, name)));
    });
    await this.compare();
  }

  async compare() {
    if (this.first.value === this.second.value) {
      this.agreement.replaceChildren(make("p", { className: "faint" }, "Choose two different annotators."));
      return;
    }
    const answer = await this.studio.api.get("agreement", { first: this.first.value, second: this.second.value });
    const format = (number) => (number === null || number === undefined ? "–" : number.toFixed(2));
    const row = (tag, cells) => make("tr", {}, ...cells.map((cell) => make(tag, {}, cell)));
    const rows = answer.classes.map((one) => row("td", [one.label, format(one.kappa), format(one.f1), `${one.num_first} / ${one.num_second}`]));
    const f1 = Object.entries(answer.segment_f1 ?? {}).map(([overlap, value]) => `${format(value)} at ${Math.round(100 * overlap)} %`);
    this.agreement.replaceChildren(
      make("p", {}, `Kappa ${format(answer.kappa)} over ${formatCount(answer.num_videos, "video")}. Segment F1: ${f1.join(", ") || "–"}.`),
      make("table", {}, make("thead", {}, row("th", ["Class", "Kappa", "F1", "Segments"])), make("tbody", {}, ...rows)),
    );
  }
}
