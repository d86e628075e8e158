/** Panel: the videos of the project. */

import { upload } from "./api.js";
import { attempt, formatCount, formatSeconds, make, makeButton } from "./dom.js";

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
    this.file = make("input", { type: "file", multiple: true, hidden: true, accept: "video/*,.mkv,.avi,.mov,.ts,.m2ts,.mpg,.wmv,.flv", "aria-label": "Videos to add" });
    this.file.onchange = () => attempt(() => this.add([...this.file.files]));
    this.addButton = makeButton("Add videos…", () => this.file.click(), { title: "Copy videos of this device into the folder; they can be dropped here as well" });
    this.progress = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of the upload" });
    this.result = make("div", { role: "status" });
    this.element = make("div", {}, this.filter, make("div", { className: "row" }, this.count, make("span", { className: "spacer" }), this.addButton, this.file), this.progress, this.result, this.list);
    this.listenToDrops();
  }

  listenToDrops() {
    const isFiles = (event) => [...event.dataTransfer.types].includes("Files");
    this.element.ondragover = (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      this.element.classList.add("drop");
    };
    this.element.ondragleave = () => this.element.classList.remove("drop");
    this.element.ondrop = (event) => {
      event.preventDefault();
      this.element.classList.remove("drop");
      if (isFiles(event)) attempt(() => this.add([...event.dataTransfer.files]));
    };
  }

  /** Copy files into the folder, one request each, so that one that is refused does not keep the others out. */
  async add(files) {
    if (!files.length || this.addButton.disabled) return;
    this.addButton.disabled = true;
    this.progress.hidden = false;
    const problems = [];
    const total = files.reduce((sum, file) => sum + file.size, 0) || 1;
    let [sent, numAdded] = [0, 0];
    for (const [place, file] of files.entries()) {
      this.result.replaceChildren(make("p", { className: "faint" }, `Adding ${file.name}, ${place + 1} of ${files.length}…`));
      try {
        const { videos, removed } = await upload(this.studio.api.link("videos"), file, (bytes) => (this.progress.value = (sent + bytes) / total));
        for (const video of videos) {
          const isKept = !removed.includes(video.path);
          if (isKept) this.update(video);
          const end = isKept ? "; it was added, open it to try again" : "";
          if (video.status !== "ok") problems.push(`${video.path}: ${video.reason || STATUS_WORDS[video.status]}${end}`);
          numAdded += isKept;
        }
      } catch (error) {
        problems.push(`${file.name}: ${error.message}`);
      }
      sent += file.size;
    }
    this.file.value = "";
    this.addButton.disabled = false;
    this.progress.hidden = true;
    const lines = problems.map((text) => make("p", { className: "problem" }, text));
    this.result.replaceChildren(make("p", {}, `${numAdded} of ${files.length} added.`), ...lines);
    if (!this.studio.video) await this.studio.openFirst();
    await this.studio.similar.load();
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
    this.count.textContent = `${found.length} of ${formatCount(this.videos.size, "video")}${found.length > MAX_SHOWN ? `; the first ${MAX_SHOWN} are shown` : ""}`;
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
    if (video.num_segments) parts.push(formatCount(video.num_segments, "segment"));
    if (video.num_events) parts.push(formatCount(video.num_events, "event"));
    if (video.num_predictions) parts.push("predicted");
    return parts.join(" · ");
  }
}
