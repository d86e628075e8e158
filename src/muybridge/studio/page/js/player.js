/** The player: plays, and shows exactly the frame that the server's time stamps name. */

import { attempt, find } from "./dom.js";
import { FrameTimes } from "./frames.js";

export const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 4, 8];

export class Player extends EventTarget {
  constructor() {
    super();
    this.video = find("video");
    this.still = find("still");
    this.note = find("screen-note");
    this.seconds = 0;
    this.index = 0;
    this.frames = null;
    this.loop = null;
    this.goal = null; // where a seek goes that waits for the server
    this.isLoaded = false; // whether the browser has a picture of the source; until then the server's is shown
    this.video.onpause = () => this.dispatchEvent(new Event("state"));
    this.video.onplay = () => this.dispatchEvent(new Event("state"));
    this.video.onplaying = () => {
      this.still.hidden = true;
      this.note.textContent = "";
    };
    this.video.onloadeddata = () => {
      this.isLoaded = true;
      if (this.hasRanges) this.still.hidden = true;
    };
    this.video.onended = () => this.seek(this.frames?.duration ?? 0);
    this.video.onerror = () => this.showFailure();
    const follow = () => {
      if (this.frames && !this.video.paused) this.follow();
      requestAnimationFrame(follow);
    };
    requestAnimationFrame(follow);
  }

  get isPlaying() {
    return Boolean(this.frames) && !this.video.paused;
  }

  /** Without ranges (while the server converts the video) single frames come as pictures. */
  get hasRanges() {
    return ["original", "ready"].includes(this.info?.media.kind);
  }

  async open(api, info) {
    this.pause();
    this.api = api;
    this.info = info;
    this.loop = null;
    this.frames = null;
    this.goal = null;
    this.streamStart = 0;
    this.still.hidden = true;
    this.note.textContent = "Loading…";
    [this.seconds, this.index] = [0, 0];
    this.dispatchEvent(new Event("open")); // nothing can be pressed or reads as shown until the frames are known
    const frames = await new FrameTimes(api, info.path).load();
    if (this.info?.path !== info.path || this.api !== api) return;
    this.frames = frames;
    this.note.textContent = "";
    if (this.hasRanges) this.setSource(0);
    else this.video.removeAttribute("src");
    this.dispatchEvent(new Event("open"));
    await this.seek(0);
  }

  close() {
    this.pause();
    this.frames = null;
    this.goal = null;
    this.info = null;
    this.still.hidden = true;
    this.video.removeAttribute("src");
    this.video.load();
    this.dispatchEvent(new Event("open"));
  }

  /** The server finished a conversion: from now on the video has ranges. */
  update(info) {
    const hadRanges = this.hasRanges;
    this.info = info;
    if (!this.hasRanges || hadRanges || !this.frames) return;
    const wasPlaying = this.isPlaying;
    this.note.textContent = "";
    attempt(async () => {
      await this.seek(this.seconds);
      if (wasPlaying) this.play();
    });
  }

  setSource(startSeconds) {
    this.isLoaded = false;
    this.streamStart = startSeconds;
    this.isStream = !this.hasRanges;
    const query = { path: this.info.path, start_seconds: this.hasRanges ? null : startSeconds };
    this.video.src = this.api.link("media", query);
  }

  /** What is added to seconds for `currentTime`. */
  get offset() {
    return this.isStream ? -this.streamStart : this.info.media.offset_seconds;
  }

  showFailure() {
    if (!this.frames || !this.video.getAttribute("src")) return;
    this.note.textContent = "This browser cannot play the video; frame by frame works.";
    this.showStill(this.seconds);
  }

  showStill(seconds) {
    this.still.src = this.api.link("frame", { path: this.info.path, seconds: seconds.toFixed(6) });
    this.still.hidden = false;
  }

  /** Show the frame at a time, or so many frames from it; while it plays, go on from there. */
  async seek(seconds, numFrames = 0) {
    if (!this.frames) return;
    const goal = { frames: this.frames, seconds: Math.min(Math.max(0, seconds), this.frames.duration), numFrames };
    this.goal = goal;
    try {
      const [index, start, end] = await this.findFrame(goal);
      if (this.goal === goal) this.show(index, start, end);
    } finally {
      if (this.goal === goal) this.goal = null;
    }
  }

  /** Keys that come before the server has answered add up: each goes on from where the one before it goes. */
  async step(numFrames) {
    this.pause();
    await this.seek(this.target.seconds, this.target.numFrames + numFrames);
  }

  async skip(seconds) {
    await this.seek(this.target.seconds + seconds, this.target.numFrames);
  }

  /** Where a waiting seek goes, else what is shown. */
  get target() {
    return this.goal ?? { frames: this.frames, seconds: this.seconds, numFrames: 0 };
  }

  /** The index of a frame, and the time stamps of its start and end. */
  async findFrame({ frames, seconds, numFrames }) {
    const moved = (await frames.indexAt(seconds)) + numFrames;
    const index = Math.min(Math.max(0, moved), frames.numFrames - 1);
    return [index, await frames.secondsOf(index), await frames.secondsOf(index + 1)];
  }

  show(index, start, end) {
    this.setPosition(start, index);
    if (this.hasRanges && !this.video.error) {
      if (this.isStream || !this.video.getAttribute("src")) this.setSource(0);
      if (this.isLoaded) this.still.hidden = true;
      else this.showStill(start);
      this.video.currentTime = (start + end) / 2 + this.offset;
    } else if (this.isPlaying) {
      this.setSource(start);
      this.video.play().catch(() => {});
    } else {
      this.video.removeAttribute("src");
      this.showStill(start);
    }
  }

  /** Time stamps of the start and end of the shown frame, or of that which a waiting seek goes to. */
  async getFrameBounds() {
    return (await this.findFrame(this.target)).slice(1);
  }

  toggle() {
    if (this.isPlaying) {
      this.pause();
      attempt(() => this.seek(this.seconds));
    } else this.play();
  }

  play() {
    if (!this.frames) return;
    const atEnd = this.index >= this.frames.numFrames - 1;
    if (atEnd && !this.loop) this.setPosition(0, 0);
    if (this.hasRanges) {
      this.still.hidden = true;
      if (atEnd) this.video.currentTime = this.seconds + this.offset;
    } else {
      this.setSource(this.seconds);
      this.note.textContent = "Being converted for this browser…";
    }
    this.video.play().catch(() => {});
    this.setSpeed(this.video.playbackRate);
  }

  pause() {
    this.video.pause();
  }

  setSpeed(rate) {
    this.video.defaultPlaybackRate = rate;
    this.video.playbackRate = rate;
    this.dispatchEvent(new Event("state"));
  }

  setPosition(seconds, index) {
    this.seconds = seconds;
    this.index = index;
    this.dispatchEvent(new Event("position"));
  }

  /** Follow the playing video. */
  follow() {
    if (this.video.seeking || this.video.readyState < 2) return;
    const seconds = Math.min(Math.max(0, this.video.currentTime - this.offset), this.frames.duration);
    if (this.loop && (seconds >= this.loop[1] || seconds < this.loop[0] - 0.5)) {
      attempt(() => this.seek(this.loop[0]));
      return;
    }
    this.setPosition(seconds, Math.min(Math.round(seconds * this.frames.rate), this.frames.numFrames - 1));
  }
}
