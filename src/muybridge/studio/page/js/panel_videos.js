/** Panel: the videos of the project. */

import { attempt, formatSeconds, make, makeButton } from "./dom.js";

const PAGE_VIDEOS = 1000;
const MAX_SHOWN = 500;
const STATUS_WORDS = { pending: "being examined", missing: "missing", unreadable: "cannot be read", truncated: "cut off", no_video: "no video", timed_out: "takes too long" };

export class VideosPanel {
  title = "Videos";

  constructor(studio) {
    this.studio = studio;
    this.videos = new Map();
    this.filter = make("input", { type: "search", placeholder: "Find a video", "aria-label": "Find a video", oninput: () => this.draw() });
    this.list = make("ul", { className: "list" });
    this.count = make("p", { className: "faint" });
    this.element = make("div", {}, this.filter, this.count, this.list);
  }

  async load() {
    this.videos.clear();
    let total = 1;
    for (let offset = 0; offset < total; offset += PAGE_VIDEOS) {
      const answer = await this.studio.api.get("videos", { offset, limit: PAGE_VIDEOS });
      for (const video of answer.videos) this.videos.set(video.path, video);
      total = answer.total;
    }
    this.draw();
  }

  update(video) {
    this.videos.set(video.path, video);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.draw(), 200);
  }

  draw() {
    const words = this.filter.value.toLowerCase();
    const found = [...this.videos.values()].filter((one) => one.path.toLowerCase().includes(words));
    this.count.textContent = `${found.length} of ${this.videos.size} videos${found.length > MAX_SHOWN ? `; the first ${MAX_SHOWN} are shown` : ""}`;
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.path : null;
    this.list.replaceChildren(...found.slice(0, MAX_SHOWN).map((video) => this.makeItem(video)));
    if (focused) [...this.list.querySelectorAll("button")].find((one) => one.dataset.path === focused)?.focus();
  }

  makeItem(video) {
    const isCurrent = video.path === this.studio.video?.path;
    const button = makeButton("", () => attempt(() => this.studio.openVideo(video.path)), { className: "item" });
    button.dataset.path = video.path;
    if (isCurrent) button.setAttribute("aria-current", "true");
    button.append(make("div", {}, video.path), make("div", { className: "faint" }, this.describe(video)));
    return make("li", {}, button);
  }

  describe(video) {
    if (video.status !== "ok") return STATUS_WORDS[video.status] ?? video.status;
    const parts = [formatSeconds(video.duration_seconds, 0), `${video.width}×${video.height}`];
    if (video.num_segments) parts.push(`${video.num_segments} segments`);
    if (video.num_events) parts.push(`${video.num_events} events`);
    if (video.num_predictions) parts.push("predicted");
    return parts.join(" · ");
  }
}
