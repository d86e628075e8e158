/** The buttons below the video and below the timeline. */

import { attempt, find, formatSeconds, make, makeButton, makeSwatch } from "./dom.js";
import { SPEEDS } from "./player.js";

/** Make the buttons; returns the function that brings them up to date. */
export function makeControls(studio) {
  const { player, timeline } = studio;
  const play = makeButton("Play", () => player.toggle(), { className: "primary" });
  const back = makeButton("−1 frame", () => attempt(() => player.step(-1)));
  const on = makeButton("+1 frame", () => attempt(() => player.step(1)));
  const speed = make("select", { "aria-label": "Speed" }, ...SPEEDS.map((rate) => make("option", { value: rate }, `${rate}×`)));
  speed.onchange = () => player.setSpeed(Number(speed.value));
  const loop = makeButton("Loop", () => attempt(() => studio.toggleLoop()), { title: "Repeat the selected segment (l)" });
  const sound = makeButton("Sound", () => {
    player.video.muted = !player.video.muted;
    update();
  });
  const clock = make("span", { className: "clock" });
  find("controls").append(play, back, on, speed, loop, sound, make("span", { className: "spacer" }), clock);

  const zoomIn = makeButton("Zoom in", () => timeline.zoom(0.5));
  const zoomOut = makeButton("Zoom out", () => timeline.zoom(2));
  const all = makeButton("Whole video", () => timeline.showAll());
  const why = makeButton("Why?", () => attempt(() => studio.network.explain()), { title: "Where and when the network sees a class (w)" });
  const range = make("span", { className: "faint" });
  find("timeline-controls").append(zoomIn, zoomOut, all, why, make("span", { className: "spacer" }), range);

  const update = () => {
    const isOpen = Boolean(player.frames);
    for (const button of [play, back, on, zoomIn, zoomOut, all, why, sound]) button.disabled = !isOpen;
    speed.disabled = !isOpen;
    play.textContent = player.isPlaying ? "Pause" : "Play";
    speed.value = String(player.video.playbackRate);
    loop.disabled = !player.loop && !(studio.marks.selected?.end_seconds !== undefined);
    loop.setAttribute("aria-pressed", String(Boolean(player.loop)));
    sound.setAttribute("aria-pressed", String(!player.video.muted));
    const { start, end } = timeline.view;
    const stale = studio.prediction.chosen?.stale ? " · the network’s timeline is out of date" : "";
    range.textContent = isOpen ? `${formatSeconds(start)} – ${formatSeconds(end)}${stale}` : "";
    showPosition();
  };
  const showPosition = () => {
    clock.textContent = player.frames ? `${formatSeconds(player.seconds)} / ${formatSeconds(player.frames.duration)} · frame ${player.index}` : "";
  };
  player.addEventListener("position", showPosition);
  for (const name of ["state", "open"]) player.addEventListener(name, update);
  timeline.addEventListener("view", update);
  for (const source of [studio.marks, studio.prediction]) source.addEventListener("change", update);
  update();
  return update;
}

/** On a narrow screen, where the panels are far below the video: a button for each class, and undo. */
export function makeQuickMarks(studio) {
  const { marks, classes } = studio;
  const draw = () => {
    const row = find("quick-marks");
    const focus = row.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const buttons = classes.list.map((one) => {
      const isOpen = marks.open.has(one.name);
      const button = makeButton("", () => attempt(() => studio.markClass(one.name, false)), { "aria-pressed": String(isOpen), "aria-label": `${isOpen ? "End" : "Start"} ${one.name} here`, "data-focus": one.name });
      button.append(makeSwatch(one.color), isOpen ? `End ${one.name}` : one.name);
      return button;
    });
    const undo = makeButton("Undo", () => marks.undo(), { disabled: !marks.past.length, "data-focus": "" });
    row.replaceChildren(...buttons, ...(buttons.length ? [undo] : []));
    if (focus !== null) [...row.children].find((one) => one.dataset.focus === focus)?.focus();
  };
  for (const source of [marks, classes]) source.addEventListener("change", draw);
}
