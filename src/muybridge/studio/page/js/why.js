/** Why: where and when a network sees a class, as colour over the video and as a curve below the timeline. */

import { attempt, find, formatSeconds } from "./dom.js";
import { drawName, gutterOf, prepareCanvas, readColors } from "./lanes.js";

const CURVE_HEIGHT = 46;
const TOLERANCE_SECONDS = 1e-4; // between a time of the page and one of the server

export class Why extends EventTarget {
  constructor(studio) {
    super();
    this.studio = studio;
    this.layer = find("evidence");
    this.curve = find("evidence-curve");
    this.pending = null; // the job that is waited for
    this.clear();
    const { player, timeline } = studio;
    player.addEventListener("open", () => this.clear());
    player.addEventListener("position", () => this.drawLayer());
    player.video.addEventListener("loadeddata", () => this.drawLayer());
    find("still").addEventListener("load", () => this.drawLayer());
    timeline.addEventListener("view", () => this.drawCurve());
    const draw = () => this.draw();
    new ResizeObserver(draw).observe(find("screen"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    studio.classes.addEventListener("change", draw);
    this.curve.addEventListener("pointerdown", (event) => attempt(() => player.seek(timeline.secondsAt(event.clientX))));
  }

  clear() {
    this.shown = null;
    this.maps = null;
    this.change();
  }

  change() {
    this.draw();
    this.dispatchEvent(new Event("change"));
  }

  /** What is asked about: the selected segment, the suggestion, the network's segment at the playhead, or the window there. */
  get query() {
    const { marks, review, prediction, player } = this.studio;
    const bounds = ({ start_seconds, end_seconds }) => ({ start_seconds, end_seconds });
    if (marks.selected?.end_seconds !== undefined) return { ...bounds(marks.selected), what: "the selected segment", label: null };
    if (review.draft && review.current.path === player.info?.path) return { ...bounds(review.draft), what: "this suggestion", label: review.draft.label };
    const here = prediction.segments.find((one) => one.start_seconds <= player.seconds && player.seconds < one.end_seconds);
    if (here) return { ...bounds(here), what: `“${here.label}” here`, label: here.label };
    return { start_seconds: player.seconds, end_seconds: player.seconds, what: "this frame", label: null };
  }

  /** Ask the server; the answer is shown when its job is done. */
  async ask(model, label) {
    const { api, video } = this.studio;
    const { start_seconds, end_seconds } = this.query;
    const job = await api.post("explanations", { model, path: video.path, start_seconds, end_seconds, label });
    this.pending = job.id;
    this.studio.jobs.update(job);
    await this.follow(job);
  }

  async follow(job) {
    if (job.id !== this.pending) return;
    if (job.state === "done") await this.show(job);
    else if (["failed", "stopped"].includes(job.state)) this.pending = null;
    this.change();
  }

  /** Show what a job computed; where the playhead is elsewhere, it goes to the frame with most evidence. */
  async show(job) {
    const { studio } = this;
    const { api } = studio;
    this.pending = null;
    const explanation = await api.get(`explanations/${job.id}`);
    const maps = new Image();
    maps.src = api.link(`explanations/${job.id}/maps`);
    await maps.decode();
    if (studio.video?.path !== explanation.path) await studio.openVideo(explanation.path);
    if (studio.video?.path !== explanation.path) return;
    this.shown = explanation;
    this.maps = maps;
    if (this.frameAt(studio.player.seconds) < 0) await studio.player.seek(this.peak);
    studio.timeline.showRange(explanation.windows[0].start_seconds, explanation.windows.at(-1).end_seconds);
    this.change();
  }

  /** The time of the frame with most evidence. */
  get peak() {
    const { importance, seconds } = this.shown;
    return seconds[importance.indexOf(Math.max(...importance))];
  }

  get hasEvidence() {
    return this.shown.importance.some((share) => share > 0);
  }

  describe() {
    const { label, model, windows, stale } = this.shown;
    const mean = windows.reduce((sum, one) => sum + one.probability, 0) / windows.length;
    const times = `${formatSeconds(windows[0].start_seconds, 1)} – ${formatSeconds(windows.at(-1).end_seconds, 1)}`;
    const most = this.hasEvidence ? `The evidence is strongest at ${formatSeconds(this.peak, 2)}.` : "No evidence for this class was found.";
    return `${label} by ${model}, ${times}: ${Math.round(100 * mean)} %. ${most}${stale ? " Out of date: the network or the video changed." : ""}`;
  }

  /** The frame of the network that is shown at a time; -1 where it saw none. */
  frameAt(time) {
    const { windows, seconds } = this.shown;
    const isIn = (one) => one.start_seconds <= time + TOLERANCE_SECONDS && time < one.end_seconds;
    return windows.some(isIn) ? seconds.findLastIndex((one) => one <= time + TOLERANCE_SECONDS) : -1;
  }

  // ---- drawing

  draw() {
    this.curve.hidden = !this.shown;
    this.drawLayer();
    this.drawCurve();
  }

  /** Colour over the part of the picture that the network sees. */
  drawLayer() {
    const { player } = this.studio;
    const frame = this.shown ? this.frameAt(player.seconds) : -1;
    this.layer.hidden = frame < 0;
    if (frame < 0) return;
    const { context, width, height } = prepareCanvas(this.layer);
    const { still, video, info } = player;
    const size = still.hidden ? [video.videoWidth || info.width, video.videoHeight || info.height] : [still.naturalWidth || info.width, still.naturalHeight || info.height];
    const scale = Math.min(width / size[0], height / size[1]);
    const [shownWidth, shownHeight] = [size[0] * scale, size[1] * scale];
    const { box, tile_pixels: side, tile_columns: columns } = this.shown;
    const left = (width - shownWidth) / 2 + box.left * shownWidth;
    const top = (height - shownHeight) / 2 + box.top * shownHeight;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.maps, (frame % columns) * side, Math.floor(frame / columns) * side, side, side, left, top, box.width * shownWidth, box.height * shownHeight);
    context.strokeStyle = "#ffffff90";
    context.strokeRect(left + 0.5, top + 0.5, box.width * shownWidth - 1, box.height * shownHeight - 1);
  }

  /** The evidence in each frame, from nothing to the most there is. */
  drawCurve() {
    if (!this.shown) return;
    this.curve.style.height = `${CURVE_HEIGHT}px`;
    const { context, width, height } = prepareCanvas(this.curve);
    const { timeline, classes } = this.studio;
    const { windows, seconds, importance, label } = this.shown;
    const colors = readColors();
    const gutter = gutterOf(width);
    const { start, end } = timeline.view;
    const xOf = (time) => gutter + ((time - start) / (end - start)) * (width - gutter);
    const yOf = (share) => height - 3 - share * (height - 8);
    context.save();
    context.beginPath();
    context.rect(gutter, 0, width - gutter, height);
    context.clip();
    for (const one of windows) {
      const inside = seconds.map((time, place) => [time, importance[place]]).filter(([time]) => time >= one.start_seconds - TOLERANCE_SECONDS && time < one.end_seconds);
      context.fillStyle = colors.back;
      context.fillRect(xOf(one.start_seconds), 0, xOf(one.end_seconds) - xOf(one.start_seconds), height);
      context.beginPath();
      context.moveTo(xOf(one.start_seconds), yOf(0));
      inside.forEach(([time, share], place) => {
        const next = inside[place + 1]?.[0] ?? one.end_seconds;
        context.lineTo(xOf(time), yOf(share));
        context.lineTo(xOf(next), yOf(share));
      });
      context.lineTo(xOf(one.end_seconds), yOf(0));
      context.closePath();
      context.fillStyle = classes.colorOf(label);
      context.fill();
    }
    context.restore();
    drawName(context, `why ${label}`, 6, height / 2, gutter, colors.text);
    this.curve.setAttribute("aria-label", `Evidence along time: ${this.describe()}`);
  }
}
