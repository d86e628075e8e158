/** Panel: what to look at next. A suggestion is accepted, changed or rejected by one key. */

import { attempt, find, formatSeconds, make, makeButton, makeField, makeSwatch, showNotice } from "./dom.js";

const STRATEGIES = [
  ["doubt", "What is most in doubt"],
  ["margin", "Two classes are close"],
  ["windows", "Overlapping windows disagree"],
  ["marks", "The network and a mark disagree"],
  ["rare", "Rare classes"],
  ["random", "At random"],
];

export class ReviewPanel {
  title = "Review";

  constructor(studio) {
    this.studio = studio;
    this.list = [];
    this.current = null;
    this.draft = null;
    this.strategy = make("select", {}, ...STRATEGIES.map(([value, text]) => make("option", { value }, text)));
    this.strategy.onchange = () => attempt(() => this.refresh());
    this.card = make("div", {});
    this.items = make("ul", { className: "list" });
    this.element = make("div", {}, makeField("Order", this.strategy), this.card, this.items);
  }

  /** Begin anew. */
  async refresh() {
    this.current = null;
    this.draft = null;
    await this.load();
  }

  async load() {
    const { suggestions } = await this.studio.api.get("suggestions", { strategy: this.strategy.value, limit: 50 });
    if (this.current) return; // the one that is looked at stays
    this.list = suggestions;
    this.draw();
  }

  async show(suggestion) {
    const { studio } = this;
    this.current = suggestion;
    const { label, start_seconds, end_seconds } = suggestion;
    this.draft = { label, start_seconds, end_seconds };
    this.draw();
    await studio.showRange(suggestion.path, start_seconds, end_seconds);
  }

  async next() {
    this.studio.openPanel(this);
    if (!this.list.length) await this.load();
    const place = this.list.indexOf(this.current) + 1;
    if (this.list.length) await this.show(this.list[place % this.list.length]);
    else showNotice("There is nothing to review; run a network along the videos first.");
  }

  get isChanged() {
    const keys = ["label", "start_seconds", "end_seconds"];
    return keys.some((key) => this.draft[key] !== this.current[key]);
  }

  /** Decide on the suggestion shown, and go on to the next. */
  async decide(decision) {
    const { studio, current, draft } = this;
    if (!current || this.isDeciding) return;
    if (decision === "change" && !this.isChanged) {
      this.card.querySelector("select")?.focus();
      return;
    }
    const { path, label, start_seconds, end_seconds } = current;
    const body = { path, suggested: { label, start_seconds, end_seconds }, decision, annotator: studio.marks.annotator };
    if (decision === "change") for (const key of Object.keys(draft)) if (draft[key] !== current[key]) body[key] = draft[key];
    this.isDeciding = true;
    try {
      await studio.decide(body);
    } finally {
      this.isDeciding = false;
    }
    const place = this.list.indexOf(current);
    this.list = this.list.filter((one) => one !== current);
    this.current = null;
    this.draft = null;
    studio.player.loop = null;
    this.draw();
    if (this.list.length) await this.show(this.list[Math.min(place, this.list.length - 1)]);
    else studio.player.pause();
  }

  async setBound(key) {
    const [start, end] = await this.studio.player.getFrameBounds();
    const draft = { ...this.draft, [key]: key === "start_seconds" ? start : end };
    if (!(draft.end_seconds > draft.start_seconds)) return;
    this.draft = draft;
    this.studio.player.loop = [draft.start_seconds, draft.end_seconds];
    this.draw();
  }

  draw() {
    this.card.replaceChildren(...(this.current ? [this.makeCard()] : []));
    this.items.replaceChildren(...this.list.map((one) => this.makeItem(one)));
    if (!this.list.length) this.items.append(make("li", { className: "faint" }, "Nothing to review. Run a network along videos under Network, then come back."));
    this.studio.timeline.draw();
  }

  makeCard() {
    const { studio, current, draft } = this;
    const names = [...new Set([current.label, current.second_label, ...studio.classes.list.map((one) => one.name)])].filter(Boolean);
    const select = make("select", {}, ...names.map((name) => make("option", { value: name, selected: name === draft.label }, name)));
    select.onchange = () => {
      this.draft = { ...this.draft, label: select.value };
      studio.timeline.draw();
    };
    select.onkeydown = (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      find("lanes").focus();
      attempt(() => this.decide("change"));
    };
    const act = (text, action, className = "") => makeButton(text, () => attempt(action), { className });
    return make(
      "div", {},
      make("div", {}, `${formatSeconds(draft.start_seconds)} – ${formatSeconds(draft.end_seconds)}`),
      make("div", { className: "faint" }, current.reasons.join("; ")),
      makeField("Class (c, then Enter to change it)", select),
      make("div", { className: "row" }, act("Start here (i)", () => this.setBound("start_seconds")), act("End here (o)", () => this.setBound("end_seconds"))),
      make("div", { className: "row" }, act("Accept (a)", () => this.decide("accept"), "primary"), act("Change (c)", () => this.decide("change")), act("Reject (r)", () => this.decide("reject"), "danger"), act("Skip (n)", () => this.next())),
    );
  }

  makeItem(one) {
    const percent = Math.round(100 * one.probability);
    const button = makeButton("", () => attempt(() => this.show(one)), { className: "item", "aria-pressed": String(one === this.current) });
    const times = `${formatSeconds(one.start_seconds)} – ${formatSeconds(one.end_seconds)}`;
    button.append(make("div", {}, makeSwatch(this.studio.classes.colorOf(one.label)), `${one.label} ${percent} %`), make("div", { className: "faint" }, `${one.path}, ${times}`));
    return make("li", {}, button);
  }
}
