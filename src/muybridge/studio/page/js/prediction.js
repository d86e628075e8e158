/** The network's timeline of the open video: the prediction chosen, and what of it the view shows. */

import { address, request } from "./api.js";

const WAIT_MILLISECONDS = 60;
const MAX_POINTS = 4000;

export class Prediction extends EventTarget {
  constructor() {
    super();
    this.list = [];
    this.clear();
  }

  clear() {
    this.chosen = null;
    this.curves = null;
    this.segments = [];
  }

  close() {
    this.path = null;
    this.list = [];
    this.clear();
    this.dispatchEvent(new Event("change"));
  }

  async load(api, path) {
    this.api = api;
    this.path = path;
    const before = this.chosen;
    const { predictions } = await api.get("predictions", { path });
    if (this.path !== path || this.api !== api) return;
    this.list = predictions;
    this.clear();
    this.chosen = predictions.find((one) => one.id === before?.id && predictions[0] === one) ?? predictions[0] ?? null;
    this.dispatchEvent(new Event("change"));
  }

  choose(id) {
    this.clear();
    this.chosen = this.list.find((one) => one.id === id) ?? null;
    this.dispatchEvent(new Event("change"));
  }

  /** Read what a view shows, a moment after it stopped moving. */
  show(view, width) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(view, width).catch((error) => this.fail(error)), WAIT_MILLISECONDS);
  }

  fail(error) {
    if (error.name !== "AbortError") this.dispatchEvent(new CustomEvent("failure", { detail: error.message }));
  }

  async read(view, width) {
    this.reading?.abort();
    if (!this.chosen) return;
    const { id } = this.chosen;
    this.reading = new AbortController();
    const range = { start_seconds: view.start, end_seconds: view.end };
    const points = Math.min(MAX_POINTS, Math.max(200, Math.round(width) * 2));
    const name = `predictions/${encodeURIComponent(id)}`;
    const [curves, answer] = await Promise.all([
      request("GET", address(`${name}/curves`, { ...range, points }), undefined, this.reading.signal),
      request("GET", address(`${name}/segments`, range), undefined, this.reading.signal),
    ]);
    if (this.chosen?.id !== id) return;
    this.curves = curves;
    this.segments = answer.segments;
    this.dispatchEvent(new Event("change"));
  }
}
