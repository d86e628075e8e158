/** Draws the timeline's lanes on a canvas: the person's marks above, the network's segments as a thin bar below them. */

import { formatSeconds } from "./dom.js";

export const RULER_HEIGHT = 22;
export const LANE_HEIGHT = 30;
export const REVIEW_HEIGHT = 16;
const BAR_HEIGHT = 17;
const NETWORK_HEIGHT = 6;
const TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

/** Width of the names at the left; the curves' axis has the same. */
export const gutterOf = (width) => (width < 600 ? 72 : 120);

/** Classes in order, then those that only the network or a mark has. */
export function laneLabels(classes, marks, prediction) {
  const labels = classes.list.map((one) => one.name);
  for (const list of [marks.segments, marks.events, prediction.segments]) {
    for (const { label } of list) if (!labels.includes(label)) labels.push(label);
  }
  return labels;
}

/** The mark at a place, and which edge of it; marks drawn last are on top. */
export function findMark(labels, marks, y, seconds, tolerance) {
  const lane = Math.floor((y - RULER_HEIGHT) / LANE_HEIGHT);
  const isReview = lane >= Math.max(1, labels.length);
  if (lane < 0) return null;
  const { segments, events, reviewed } = marks.document;
  const candidates = isReview ? reviewed : [...segments, ...events].filter((mark) => mark.label === labels[lane]);
  const near = candidates.filter((mark) => {
    const [start, end] = boundsOf(mark);
    return seconds >= start - tolerance && seconds <= end + tolerance;
  });
  const mark = near.includes(marks.selected) ? marks.selected : near.at(-1);
  if (!mark) return null;
  if (mark.time_seconds !== undefined) return { mark, edge: "time_seconds" };
  const [start, end] = boundsOf(mark).map((bound) => Math.abs(seconds - bound));
  const edge = Math.min(start, end) > tolerance ? null : start < end ? "start_seconds" : "end_seconds";
  return { mark, edge };
}

const boundsOf = (mark) => (mark.time_seconds === undefined ? [mark.start_seconds, mark.end_seconds] : [mark.time_seconds, mark.time_seconds]);

/** From the frame where the key was pressed to the playhead, which may be before it. */
const openBounds = ([start, end], seconds) => (seconds < start ? [seconds, end] : [start, seconds]);

/** The context of a canvas at the screen's resolution, cleared, and its size in CSS pixels. */
export function prepareCanvas(canvas) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  return { context, width, height };
}

export function readColors() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return { text: read("text"), faint: read("faint"), line: read("line"), accent: read("accent"), chosen: read("chosen"), back: read("back"), panel: read("panel") };
}

export function drawLanes(canvas, timeline, labels) {
  const { context, width, height } = prepareCanvas(canvas);
  const colors = readColors();
  const gutter = gutterOf(width);
  const { start, end } = timeline.view;
  const xOf = (seconds) => gutter + ((seconds - start) / (end - start)) * (width - gutter);
  drawRuler(context, timeline.view, xOf, width, height, colors);
  labels.forEach((label, lane) => {
    const top = RULER_HEIGHT + lane * LANE_HEIGHT;
    context.strokeStyle = colors.line;
    context.strokeRect(-1, top + 0.5, width + 2, LANE_HEIGHT);
  });
  context.save();
  context.beginPath();
  context.rect(gutter, 0, width - gutter, height);
  context.clip();
  drawNetwork(context, timeline, labels, xOf);
  drawMarks(context, timeline, labels, xOf, colors);
  drawSuggestion(context, timeline, labels, xOf, colors);
  drawReviewed(context, timeline, height, xOf, colors);
  context.restore();
  drawNames(context, timeline, labels, gutter, height, colors);
}

function drawRuler(context, view, xOf, width, height, colors) {
  const length = view.end - view.start;
  const aim = length / Math.max(2, width / 110);
  const step = TICKS.find((tick) => tick >= aim) ?? TICKS.at(-1);
  const decimals = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
  context.fillStyle = colors.faint;
  context.strokeStyle = colors.line;
  for (let tick = Math.ceil(view.start / step); tick * step <= view.end; tick += 1) {
    const x = Math.round(xOf(tick * step)) + 0.5;
    context.beginPath();
    context.moveTo(x, RULER_HEIGHT - 5);
    context.lineTo(x, height);
    context.stroke();
    const text = formatSeconds(tick * step, decimals);
    if (x + 4 + context.measureText(text).width < width) context.fillText(text, x + 4, RULER_HEIGHT / 2);
  }
}

const isShown = (one, view) => one.start_seconds < view.end && one.end_seconds > view.start;

function drawNetwork(context, timeline, labels, xOf) {
  for (const segment of timeline.prediction.segments.filter((one) => isShown(one, timeline.view))) {
    const lane = labels.indexOf(segment.label);
    const top = RULER_HEIGHT + lane * LANE_HEIGHT + LANE_HEIGHT - NETWORK_HEIGHT - 2;
    context.globalAlpha = 0.35 + 0.65 * segment.mean_probability;
    context.fillStyle = timeline.classes.colorOf(segment.label);
    context.fillRect(xOf(segment.start_seconds), top, Math.max(1, xOf(segment.end_seconds) - xOf(segment.start_seconds)), NETWORK_HEIGHT);
  }
  context.globalAlpha = 1;
}

function drawMarks(context, timeline, labels, xOf, colors) {
  const { marks, classes, drag, player } = timeline;
  const topOf = (label) => RULER_HEIGHT + labels.indexOf(label) * LANE_HEIGHT + 3;
  for (const mark of marks.document.segments.filter((one) => isShown(one, timeline.view) || one === drag?.mark)) {
    const shown = drag?.edge && drag.mark === mark ? { ...mark, [drag.edge]: drag.seconds } : mark;
    const [left, right] = [xOf(shown.start_seconds), xOf(shown.end_seconds)];
    context.fillStyle = classes.colorOf(mark.label);
    context.fillRect(left, topOf(mark.label), Math.max(2, right - left), BAR_HEIGHT);
    if (mark === marks.selected) outline(context, left, topOf(mark.label), Math.max(2, right - left), colors);
  }
  for (const [label, first] of marks.open) {
    context.globalAlpha = 0.5;
    context.fillStyle = classes.colorOf(label);
    const [left, right] = openBounds(first, player.seconds).map(xOf);
    context.fillRect(left, topOf(label), Math.max(2, right - left), BAR_HEIGHT);
    context.globalAlpha = 1;
  }
  for (const mark of marks.document.events) {
    const seconds = drag?.edge && drag.mark === mark ? drag.seconds : mark.time_seconds;
    drawDiamond(context, xOf(seconds), topOf(mark.label) + BAR_HEIGHT / 2, classes.colorOf(mark.label), mark === marks.selected, colors);
  }
}

/** The suggestion that is reviewed, as a dashed frame. */
function drawSuggestion(context, timeline, labels, xOf, colors) {
  const draft = timeline.review?.draft;
  const lane = draft ? labels.indexOf(draft.label) : -1;
  if (lane < 0 || timeline.review.current.path !== timeline.player.info?.path) return;
  context.strokeStyle = colors.text;
  context.setLineDash([5, 3]);
  const left = xOf(draft.start_seconds);
  context.strokeRect(left, RULER_HEIGHT + lane * LANE_HEIGHT + 2.5, Math.max(2, xOf(draft.end_seconds) - left), LANE_HEIGHT - 5);
  context.setLineDash([]);
}

function outline(context, left, top, width, colors) {
  context.strokeStyle = colors.text;
  context.lineWidth = 2;
  context.strokeRect(left, top, width, BAR_HEIGHT);
  context.lineWidth = 1;
}

function drawDiamond(context, x, y, color, isSelected, colors) {
  context.beginPath();
  context.moveTo(x, y - 8);
  context.lineTo(x + 6, y);
  context.lineTo(x, y + 8);
  context.lineTo(x - 6, y);
  context.closePath();
  context.fillStyle = color;
  context.fill();
  context.strokeStyle = isSelected ? colors.text : colors.panel;
  context.lineWidth = 2;
  context.stroke();
  context.lineWidth = 1;
}

function drawReviewed(context, timeline, height, xOf, colors) {
  const { marks, player } = timeline;
  const top = height - REVIEW_HEIGHT + 4;
  const ranges = marks.document.reviewed.map((one) => [one.start_seconds, one.end_seconds, one]);
  if (marks.openReview) ranges.push([...openBounds(marks.openReview, player.seconds), null]);
  context.fillStyle = colors.faint;
  for (const [start, end, mark] of ranges) {
    const width = Math.max(2, xOf(end) - xOf(start));
    context.fillRect(xOf(start), top, width, 8);
    if (mark && mark === marks.selected) {
      context.strokeStyle = colors.text;
      context.strokeRect(xOf(start), top - 1, width, 10);
    }
  }
}

/** A text in the gutter, cut to its width. */
export function drawName(context, text, x, y, gutter, color) {
  context.fillStyle = color;
  let shown = text;
  while (shown.length > 1 && context.measureText(shown).width > gutter - x - 4) shown = `${shown.slice(0, -2).trimEnd()}…`;
  context.fillText(shown, x, y);
}

function drawNames(context, timeline, labels, gutter, height, colors) {
  context.fillStyle = colors.panel;
  context.fillRect(0, 0, gutter, height);
  labels.forEach((label, lane) => {
    const top = RULER_HEIGHT + lane * LANE_HEIGHT;
    context.fillStyle = timeline.classes.colorOf(label);
    context.fillRect(6, top + LANE_HEIGHT / 2 - 5, 10, 10);
    drawName(context, label, 21, top + LANE_HEIGHT / 2, gutter, colors.text);
  });
  if (!labels.length) drawName(context, "no classes", 6, RULER_HEIGHT + LANE_HEIGHT / 2, gutter, colors.faint);
  drawName(context, "watched", 21, height - REVIEW_HEIGHT / 2, gutter, colors.faint);
  context.strokeStyle = colors.line;
  context.beginPath();
  context.moveTo(gutter - 0.5, 0);
  context.lineTo(gutter - 0.5, height);
  context.stroke();
}

export function drawOverview(canvas, timeline, labels) {
  const { context, width, height } = prepareCanvas(canvas);
  const colors = readColors();
  const gutter = gutterOf(width);
  context.fillStyle = colors.back;
  context.fillRect(gutter, 0, width - gutter, height);
  if (!timeline.duration) return;
  const scale = (width - gutter) / timeline.duration;
  const xOf = (seconds) => gutter + seconds * scale;
  const rows = Math.max(1, labels.length);
  for (const mark of timeline.marks.document.segments) {
    context.fillStyle = timeline.classes.colorOf(mark.label);
    const top = (labels.indexOf(mark.label) / rows) * height;
    context.fillRect(xOf(mark.start_seconds), top, Math.max(1, (mark.end_seconds - mark.start_seconds) * scale), Math.max(2, height / rows));
  }
  context.strokeStyle = colors.accent;
  context.lineWidth = 2;
  const { start, end } = timeline.view;
  context.strokeRect(xOf(start) + 1, 1, Math.max(2, (end - start) * scale - 2), height - 2);
}
