/** Keys. Those of classes come from the project; a field that is being typed in gets its keys itself. */

import { attempt, find, make } from "./dom.js";
import { SPEEDS } from "./player.js";

const TABLE = [
  ["Space", "Play, pause"],
  ["← →  or  , .", "One frame back, on"],
  ["Shift ← →", "One second back, on"],
  ["j k", "Slower, faster"],
  ["Home End", "First, last frame"],
  ["↑ ↓", "Previous, next mark"],
  ["+ −", "Zoom in, out around the playhead"],
  ["z", "Show the whole video"],
  ["Key of a class", "Start a segment at this frame; again: end it with this frame"],
  ["Shift + key of a class", "Mark this frame as an event"],
  ["x", "Start, end of a watched range"],
  ["i o", "Start, end of the selected segment to this frame"],
  ["l", "Loop the selected segment"],
  ["Delete", "Delete the selected mark"],
  ["Escape", "Drop a segment without end; select nothing; hide the evidence"],
  ["Ctrl Z, Ctrl Shift Z", "Undo, redo"],
  ["f", "Find more like the selected segment, or this frame"],
  ["w", "Why: where and when the network sees a class"],
  ["n", "Next suggestion"],
  ["a c r", "Accept, change (its class or bounds), reject the suggestion"],
];

function isTyping(target) {
  if (target.closest("dialog[open]")) return true;
  return target.matches("select, textarea, input:not([type=checkbox]):not([type=button])");
}

export function listenToKeys(studio) {
  const { player, marks, timeline, classes } = studio;
  const actions = {
    ArrowLeft: (event) => (event.shiftKey ? player.skip(-1) : player.step(-1)),
    ArrowRight: (event) => (event.shiftKey ? player.skip(1) : player.step(1)),
    ",": () => player.step(-1),
    ".": () => player.step(1),
    " ": () => player.toggle(),
    j: () => changeSpeed(player, -1),
    k: () => changeSpeed(player, 1),
    Home: () => player.seek(0),
    End: () => player.seek(timeline.duration),
    ArrowUp: () => studio.selectNeighbour(-1),
    ArrowDown: () => studio.selectNeighbour(1),
    "+": () => timeline.zoom(0.5),
    "=": () => timeline.zoom(0.5),
    "-": () => timeline.zoom(2),
    z: () => timeline.showAll(),
    x: () => studio.toggleReview(),
    i: () => studio.setEdge("start_seconds"),
    o: () => studio.setEdge("end_seconds"),
    l: () => studio.toggleLoop(),
    Delete: () => marks.deleteSelected(),
    Backspace: () => marks.deleteSelected(),
    Escape: () => {
      marks.cancelOpen();
      studio.why.clear();
    },
    f: () => studio.similar.search(),
    w: () => studio.network.explain(),
    n: () => studio.review.next(),
    a: () => studio.review.decide("accept"),
    c: () => studio.review.decide("change"),
    r: () => studio.review.decide("reject"),
    "?": () => find("keys-dialog").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (isTyping(event.target) || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() !== "z" && event.key !== "y") return;
      event.preventDefault();
      if (event.shiftKey || event.key === "y") marks.redo();
      else marks.undo();
      return;
    }
    if (isOfFocusedControl(event)) return;
    const key = event.code.startsWith("Digit") ? event.code.slice(5) : event.key;
    const mark = classes.findByKey(key.length === 1 ? key.toLowerCase() : key);
    const action = mark ? () => studio.markClass(mark.name, event.shiftKey) : actions[event.key];
    if (!action || (event.repeat && mark)) return;
    event.preventDefault();
    attempt(async () => action(event));
  });
}

/** Space and Enter press a focused button; arrows move between focused tabs. */
function isOfFocusedControl(event) {
  const target = event.target;
  if (target.matches("button, summary, a, input")) {
    if (event.key === " " || event.key === "Enter") return true;
  }
  return target.matches("[role=tab]") && ["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key);
}

export function changeSpeed(player, direction) {
  const place = SPEEDS.indexOf(player.video.playbackRate) + direction;
  player.setSpeed(SPEEDS[Math.min(Math.max(0, place), SPEEDS.length - 1)]);
}

export function fillKeysDialog() {
  const body = find("keys-table").tBodies[0];
  for (const [keys, meaning] of TABLE) {
    body.append(make("tr", {}, make("td", {}, make("kbd", {}, keys)), make("td", {}, meaning)));
  }
  find("show-keys").onclick = () => find("keys-dialog").showModal();
  find("keys-close").onclick = () => find("keys-dialog").close();
}
