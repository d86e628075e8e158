/** The timeline: what part of the video it shows, the pointer on it, and the playhead. Drawing is in lanes.js and curves.js. */

import { attempt, find, formatSeconds } from "./dom.js";
import { drawLanes, drawOverview, findMark, gutterOf, laneLabels, RULER_HEIGHT, LANE_HEIGHT, REVIEW_HEIGHT } from "./lanes.js";

const MIN_FRAMES_SHOWN = 8;
const EDGE_PIXELS = 6;
const TOUCH_EDGE_PIXELS = 14;
const MIN_PINCH_PIXELS = 24; // between two fingers, below which their distance says nothing
const WHEEL_PIXELS = 200; // that zoom by e: from hours to frames in a few turns

export class Timeline extends EventTarget {
  constructor(player, marks, classes, prediction) {
    super();
    Object.assign(this, { player, marks, classes, prediction });
    this.canvas = find("lanes");
    this.overview = find("overview");
    this.playhead = find("playhead");
    this.view = { start: 0, end: 1 };
    this.drag = null;
    this.fingers = new Map(); // pointers that are down, and the seconds below each of two
    this.isQueued = false;
    for (const source of [marks, classes, prediction]) source.addEventListener("change", () => this.draw());
    player.addEventListener("open", () => this.setView(0, this.duration));
    player.addEventListener("position", () => this.follow());
    new ResizeObserver(() => this.draw()).observe(find("timeline"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.listen();
  }

  get duration() {
    return this.player.frames?.duration ?? 0;
  }

  get labels() {
    return laneLabels(this.classes, this.marks.document, this.prediction);
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => attempt(() => this.release()));
    canvas.addEventListener("pointercancel", () => (this.drag = null));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.fingers.delete(event.pointerId));
    find("timeline").addEventListener("wheel", (event) => this.turnWheel(event), { passive: false });
    const jump = (event) => {
      if (event.buttons !== 1) return;
      const box = this.overview.getBoundingClientRect();
      const gutter = gutterOf(box.width);
      this.centre(((event.clientX - box.left - gutter) / (box.width - gutter)) * this.duration);
    };
    this.overview.addEventListener("pointerdown", (event) => {
      this.overview.setPointerCapture(event.pointerId);
      jump(event);
    });
    this.overview.addEventListener("pointermove", jump);
  }

  // ---- view

  setView(start, end) {
    const duration = this.duration;
    if (!duration) return;
    const shortest = Math.min(duration, MIN_FRAMES_SHOWN / this.player.frames.rate);
    const length = Math.min(duration, Math.max(shortest, end - start));
    const first = Math.min(Math.max(0, start), duration - length);
    this.view = { start: first, end: first + length };
    this.dispatchEvent(new Event("view"));
    this.draw();
  }

  zoom(factor, around = this.player.seconds) {
    const { start, end } = this.view;
    const centre = Math.min(Math.max(around, start), end);
    this.setView(centre - (centre - start) * factor, centre + (end - centre) * factor);
  }

  centre(seconds) {
    const half = (this.view.end - this.view.start) / 2;
    this.setView(seconds - half, seconds + half);
  }

  showAll() {
    this.setView(0, this.duration);
  }

  /** Show a range with some of what is around it. */
  showRange(start, end) {
    const length = end - start;
    if (start < this.view.start || end > this.view.end || length < (this.view.end - this.view.start) / 50) {
      this.setView(start - 2 * length - 1, end + 2 * length + 1);
    }
  }

  turnWheel(event) {
    if (!this.duration) return;
    event.preventDefault();
    const length = this.view.end - this.view.start;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const shift = ((event.deltaX || event.deltaY) / this.canvas.clientWidth) * length;
      this.setView(this.view.start + shift, this.view.end + shift);
    } else this.zoom(Math.exp(event.deltaY / WHEEL_PIXELS), this.secondsAt(event.clientX));
  }

  // ---- coordinates

  get plotWidth() {
    return Math.max(1, this.canvas.clientWidth - gutterOf(this.canvas.clientWidth));
  }

  secondsAt(clientX) {
    const x = clientX - this.canvas.getBoundingClientRect().left - gutterOf(this.canvas.clientWidth);
    return this.view.start + (x / this.plotWidth) * (this.view.end - this.view.start);
  }

  // ---- pointer

  hit(event) {
    const box = this.canvas.getBoundingClientRect();
    const pixels = event.pointerType === "touch" ? TOUCH_EDGE_PIXELS : EDGE_PIXELS;
    const tolerance = (pixels / this.plotWidth) * (this.view.end - this.view.start);
    return findMark(this.labels, this.marks, event.clientY - box.top, this.secondsAt(event.clientX), tolerance);
  }

  press(event) {
    if (!this.duration || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, { x: event.clientX, seconds: this.secondsAt(event.clientX) });
    if (this.fingers.size > 1) {
      this.drag = null;
      for (const finger of this.fingers.values()) finger.seconds = this.secondsAt(finger.x);
      return;
    }
    const found = this.hit(event);
    if (found) this.marks.select(found.mark);
    if (found?.edge) {
      this.drag = { ...found, seconds: found.mark[found.edge] };
      return;
    }
    this.drag = { scrub: true };
    attempt(() => this.player.seek(this.secondsAt(event.clientX)));
  }

  /** Two fingers zoom and move: the seconds below each stay below it. */
  pinch() {
    const [left, right] = [...this.fingers.values()].sort((a, b) => a.x - b.x);
    const pixels = right.x - left.x;
    if (pixels < MIN_PINCH_PIXELS || right.seconds <= left.seconds) return;
    const secondsPerPixel = (right.seconds - left.seconds) / pixels;
    const origin = this.canvas.getBoundingClientRect().left + gutterOf(this.canvas.clientWidth);
    const start = left.seconds - (left.x - origin) * secondsPerPixel;
    this.setView(start, start + this.plotWidth * secondsPerPixel);
  }

  move(event) {
    const finger = this.fingers.get(event.pointerId);
    if (finger) finger.x = event.clientX;
    if (this.fingers.size === 2) return this.pinch();
    if (!this.drag) {
      this.canvas.style.cursor = this.duration && this.hit(event)?.edge ? "ew-resize" : "pointer";
      return undefined;
    }
    const seconds = Math.min(Math.max(0, this.secondsAt(event.clientX)), this.duration);
    if (this.drag.edge) this.drag = { ...this.drag, seconds, moved: true };
    attempt(() => this.player.seek(seconds));
    this.draw();
    return undefined;
  }

  /** An edge goes to the nearest border between frames. */
  async release() {
    const drag = this.drag;
    this.drag = null;
    if (!drag?.moved) return;
    const seconds = await this.player.frames.snap(drag.seconds);
    this.marks.revise(drag.mark, { [drag.edge]: seconds });
    this.draw();
  }

  // ---- drawing

  follow() {
    const { start, end } = this.view;
    const seconds = this.player.seconds;
    if (!this.drag && (seconds < start || seconds > end)) {
      const length = end - start;
      this.setView(seconds - 0.1 * length, seconds + 0.9 * length);
    }
    this.placePlayhead();
  }

  placePlayhead() {
    const gutter = gutterOf(this.canvas.clientWidth);
    const part = (this.player.seconds - this.view.start) / (this.view.end - this.view.start);
    this.playhead.hidden = !this.duration || part < 0 || part > 1;
    this.playhead.style.transform = `translateX(${gutter + part * this.plotWidth - 1}px)`;
    this.canvas.setAttribute("aria-valuemax", this.duration.toFixed(3));
    this.canvas.setAttribute("aria-valuenow", this.player.seconds.toFixed(3));
    this.canvas.setAttribute("aria-valuetext", `${formatSeconds(this.player.seconds)}, frame ${this.player.index}`);
  }

  draw() {
    if (this.isQueued) return;
    this.isQueued = true;
    requestAnimationFrame(() => {
      this.isQueued = false;
      const labels = this.labels;
      this.canvas.style.height = `${RULER_HEIGHT + REVIEW_HEIGHT + LANE_HEIGHT * Math.max(1, labels.length)}px`;
      drawLanes(this.canvas, this, labels);
      drawOverview(this.overview, this, labels);
      this.placePlayhead();
    });
  }
}
