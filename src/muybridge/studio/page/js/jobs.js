/** The jobs of a project, kept up to date by the server's events, and their rows in panels. */

import { attempt, make, makeButton } from "./dom.js";

const LIVE = ["queued", "running", "stopping"];

export class Jobs extends EventTarget {
  constructor() {
    super();
    this.list = [];
    this.logs = new Map(); // of the jobs whose log is shown
  }

  async load(api) {
    this.api = api;
    this.logs.clear();
    this.list = (await api.get("jobs")).jobs;
    this.dispatchEvent(new Event("change"));
  }

  update(job) {
    const place = this.list.findIndex((one) => one.id === job.id);
    if (place < 0) this.list.unshift(job);
    else this.list[place] = job;
    this.dispatchEvent(new Event("change"));
    if (this.logs.has(job.id)) attempt(() => this.readLog(job));
  }

  async readLog(job) {
    const text = await this.api.get(`jobs/${job.id}/log`);
    this.logs.set(job.id, text.trim() || "It printed nothing.");
    this.dispatchEvent(new Event("change"));
  }

  async toggleLog(job) {
    if (!this.logs.delete(job.id)) await this.readLog(job);
    else this.dispatchEvent(new Event("change"));
  }

  async act(job, action) {
    this.update(await this.api.post(`jobs/${job.id}/${action}`));
  }

  async forget(job) {
    await this.api.delete(`jobs/${job.id}`);
    this.list = this.list.filter((one) => one.id !== job.id);
    this.dispatchEvent(new Event("change"));
  }

  /** The jobs of some kinds under a heading, an element that stays the same; hidden while there are none.
   * `show` shows the explanation that a job made. */
  makeSection(kinds, show = null) {
    const list = make("ul", { className: "list" });
    const section = make("div", { hidden: true }, make("h3", {}, "Jobs"), list);
    const draw = () => {
      const focus = list.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
      list.replaceChildren(...this.list.filter((job) => kinds.includes(job.kind)).map((job) => this.makeRow(job, show)));
      section.hidden = !list.children.length;
      if (focus) [...list.querySelectorAll("button")].find((one) => one.dataset.focus === focus)?.focus();
    };
    this.addEventListener("change", draw);
    return section;
  }

  makeRow(job, show) {
    const isLive = LIVE.includes(job.state);
    const act = (text, action, className = "") => makeButton(text, () => attempt(action), { className, "aria-label": `${text}: ${job.title}`, "data-focus": `${text} ${job.id}` });
    const row = make("div", { className: "row" });
    if (isLive) row.append(act("Stop", () => this.act(job, "stop"), "danger"));
    else {
      if (["stopped", "failed"].includes(job.state)) row.append(act("Resume", () => this.act(job, "resume")));
      if (job.kind === "explain" && job.state === "done") row.append(act("Show", () => show(job)));
      row.append(act("Forget", () => this.forget(job)));
    }
    const isOpen = this.logs.has(job.id);
    const log = act("Log", () => this.toggleLog(job));
    log.setAttribute("aria-expanded", String(isOpen));
    row.append(log);
    const progress = make("progress", { max: 1, value: job.progress ?? 0, "aria-label": `Progress of ${job.title}` });
    const message = make("div", { className: job.state === "failed" ? "problem" : "faint" }, job.message);
    return make("li", {}, make("div", {}, `${job.title}: ${job.state}`), isLive ? progress : "", message, row, isOpen ? this.makeLog(job) : "");
  }

  /** What a job printed, scrolled to its end. */
  makeLog(job) {
    const log = make("pre", { className: "log", tabIndex: 0, "aria-label": `Log of ${job.title}` }, this.logs.get(job.id));
    requestAnimationFrame(() => (log.scrollTop = log.scrollHeight));
    return log;
  }
}
