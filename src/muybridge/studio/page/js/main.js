/** The page: one project, one open video, and the panels beside it. */

import { ProjectApi, request } from "./api.js";
import { Classes } from "./classes.js";
import { makeControls, makeQuickMarks } from "./controls.js";
import { ProbabilityCurves } from "./curves.js";
import { attempt, find, make, showNotice } from "./dom.js";
import { listenToFolders } from "./folders.js";
import { Jobs } from "./jobs.js";
import { fillKeysDialog, listenToKeys } from "./keys.js";
import { Marks } from "./marks.js";
import { FilesPanel } from "./panel_files.js";
import { MarksPanel } from "./panel_marks.js";
import { NetworkPanel } from "./panel_network.js";
import { ReviewPanel } from "./panel_review.js";
import { SimilarPanel } from "./panel_similar.js";
import { TrainPanel } from "./panel_train.js";
import { VideosPanel } from "./panel_videos.js";
import { Player } from "./player.js";
import { Prediction } from "./prediction.js";
import { makeTabs } from "./tabs.js";
import { Timeline } from "./timeline.js";
import { Why } from "./why.js";

const ANNOTATOR_KEY = "muybridge.annotator";

class Studio {
  constructor() {
    this.video = null;
    this.wanted = null; // the video that is being opened
    this.classes = new Classes();
    this.marks = new Marks();
    this.jobs = new Jobs();
    this.prediction = new Prediction();
    this.player = new Player();
    this.timeline = new Timeline(this.player, this.marks, this.classes, this.prediction);
    this.curves = new ProbabilityCurves(this.timeline, this.prediction, this.classes);
    this.videos = new VideosPanel(this);
    this.review = new ReviewPanel(this);
    this.timeline.review = this.review;
    this.train = new TrainPanel(this);
    this.why = new Why(this);
    this.network = new NetworkPanel(this);
    this.similar = new SimilarPanel(this);
    const panels = [this.videos, new MarksPanel(this), this.similar, this.train, this.network, this.review, new FilesPanel(this)];
    this.openPanel = makeTabs(panels, (panel) => this.api && attempt(() => panel.load?.()));
    this.drawControls = makeControls(this);
    makeQuickMarks(this);
    this.marks.addEventListener("state", (event) => (find("save-state").textContent = event.detail));
    for (const source of [this.marks, this.prediction]) source.addEventListener("failure", (event) => showNotice(event.detail));
    addEventListener("beforeunload", (event) => this.marks.isDirty && event.preventDefault());
    listenToKeys(this);
    fillKeysDialog();
    listenToFolders(async (folder) => this.openProject((await request("POST", "projects", { folder })).id));
  }

  // ---- project and video

  async start() {
    const { projects, default: first } = await request("GET", "projects");
    const id = first ?? projects[0]?.id;
    if (id) await this.openProject(id);
    else showNotice("Open a folder of videos.");
  }

  async openProject(id) {
    if (!(await this.mayLeave())) {
      find("project").value = this.api.id;
      return;
    }
    const { projects } = await request("GET", "projects");
    const project = projects.find((one) => one.id === id);
    const select = find("project");
    select.replaceChildren(...projects.map((one) => make("option", { value: one.id, title: one.folder }, one.name)));
    select.value = id;
    select.onchange = () => attempt(() => this.openProject(select.value));
    this.wanted = null;
    this.api = new ProjectApi(id);
    this.marks.annotator = localStorage.getItem(ANNOTATOR_KEY) ?? project?.annotator ?? "me";
    this.listen();
    this.train.forget();
    await Promise.all([this.classes.load(this.api), this.jobs.load(this.api), this.videos.load()]);
    await this.openFirst();
    await Promise.all([this.train.load(), this.network.load(), this.review.load(), this.similar.load()]);
  }

  async openFirst() {
    const [path] = this.listUsablePaths();
    if (path) await this.openVideo(path);
    else this.closeVideo();
  }

  /** Whether the marks of the open video are saved; where they cannot be, a person may give up those that are not. */
  async mayLeave() {
    await this.marks.flush();
    const { isDirty, path } = this.marks;
    return !isDirty || confirm(`The last changes of ${path} could not be saved. Leave it and lose them?`);
  }

  closeVideo() {
    this.wanted = null;
    this.video = null;
    this.marks.close();
    this.prediction.close();
    this.player.close();
    find("video-title").textContent = "No video";
    find("screen-note").textContent = "There are no videos in this folder. Add some under Videos, or open another folder.";
  }

  /** Examining a video takes a while: of several that are asked for, the last one is opened. */
  async openVideo(path) {
    const wanted = (this.wanted = { path });
    try {
      const isOpen = this.videos.videos.get(path)?.path === this.video?.path && this.video?.project === this.api;
      if (isOpen && this.player.frames) return; // without frames the server did not answer: try again
      const info = await this.api.get("video", { path });
      if (this.wanted !== wanted) return;
      if (info.status !== "ok") showNotice(`${path} cannot be opened: ${info.reason || info.status}`);
      else if ((await this.mayLeave()) && this.wanted === wanted) await this.showVideo(info);
    } finally {
      if (this.wanted === wanted) this.wanted = null;
    }
  }

  async showVideo(info) {
    const { api } = this;
    const { path } = info;
    this.video = { ...info, project: api };
    find("video-title").textContent = path;
    this.prediction.clear();
    this.videos.update(info);
    await Promise.all([this.marks.load(api, path), this.player.open(api, info), this.prediction.load(api, path)]);
  }

  listUsablePaths() {
    return [...this.videos.videos.values()].filter((one) => ["ok", "pending"].includes(one.status)).map((one) => one.path);
  }

  setAnnotator(name) {
    if (!name) return;
    localStorage.setItem(ANNOTATOR_KEY, name);
    this.marks.annotator = name;
  }

  // ---- what others did: other tabs, other programs, jobs

  listen() {
    this.events?.close();
    this.events = new EventSource(this.api.link("events"));
    let isFirst = true;
    this.events.onerror = () => this.events.readyState === EventSource.CLOSED && showNotice("The server was started anew; open the address that it printed.");
    const on = (name, act) => this.events.addEventListener(name, (event) => attempt(async () => act(JSON.parse(event.data))));
    on("video", (video) => this.updateVideo(video));
    on("annotations", ({ path, revision }) => path === this.marks.path && this.marks.reload(revision));
    on("annotations", () => this.refreshData());
    on("classes", () => this.classes.load(this.api));
    on("job", (job) => this.updateJob(job));
    on("hello", () => {
      if (!isFirst) return this.catchUp();
      isFirst = false;
      return undefined;
    });
    on("problem", ({ detail }) => showNotice(detail));
  }

  /** The connection was lost for a while: read again what its events would have said. */
  async catchUp() {
    const { api } = this;
    await Promise.all([this.jobs.load(api), this.videos.load(), this.classes.load(api), this.train.load(), this.network.load(), this.similar.load()]);
    for (const job of this.jobs.list) await this.why.follow(job);
    if (!this.review.current) await this.review.load();
    const path = this.video?.path;
    if (!path) return;
    const [{ revision }, { predictions }] = await Promise.all([api.get("annotations", { path }), api.get("predictions", { path })]);
    await this.marks.reload(revision);
    if (predictions[0]?.id !== this.prediction.list[0]?.id) await this.prediction.load(api, path);
  }

  updateVideo(video) {
    this.videos.update(video);
    if (video.path !== this.video?.path) {
      if (!this.video && !this.wanted && video.status === "ok") return this.openVideo(video.path);
      return undefined;
    }
    this.video = { ...video, project: this.api };
    this.player.update(video);
    return undefined;
  }

  /** Counts of classes; what would be trained on only where it is shown, since opening its panel reads it. */
  refreshData() {
    clearTimeout(this.refreshTimer);
    const refresh = () => Promise.all([this.classes.load(this.api), this.train.isShown && this.train.loadData()]);
    this.refreshTimer = setTimeout(() => attempt(refresh), 300);
  }

  async updateJob(job) {
    this.jobs.update(job);
    if (job.kind === "train") await this.train.follow(job);
    if (job.kind === "explain") await this.why.follow(job);
    if (job.state !== "done") return;
    if (job.kind === "index") await this.similar.load();
    if (job.kind === "train") await this.network.load();
    if (!job.predictions.length) return;
    if (this.video && job.paths.includes(this.video.path)) await this.prediction.load(this.api, this.video.path);
    if (!this.review.current) await this.review.load();
  }

  // ---- actions of keys and buttons

  async markClass(name, isEvent) {
    if (!this.player.frames) return;
    const bounds = await this.player.getFrameBounds();
    if (isEvent) this.marks.addEvent(name, bounds[0]);
    else this.marks.toggle(name, bounds);
  }

  async toggleReview() {
    if (this.player.frames) this.marks.toggleReview(await this.player.getFrameBounds());
  }

  async setEdge(key) {
    if (this.review.current && !this.marks.selected) return this.review.setBound(key);
    const mark = this.marks.selected;
    if (!mark) return undefined;
    const [start, end] = await this.player.getFrameBounds();
    if (mark.time_seconds !== undefined) this.marks.revise(mark, { time_seconds: start });
    else this.marks.revise(mark, { [key]: key === "start_seconds" ? start : end });
    return undefined;
  }

  async toggleLoop() {
    const mark = this.marks.selected;
    if (this.player.loop) this.player.loop = null;
    else if (mark?.end_seconds !== undefined) {
      this.player.loop = [mark.start_seconds, mark.end_seconds];
      await this.player.seek(mark.start_seconds);
      this.player.play();
    }
    this.drawControls();
  }

  /** Play a part of a video in a loop. */
  async showRange(path, start, end) {
    if (this.video?.path !== path) await this.openVideo(path);
    if (this.video?.path !== path) return; // it cannot be opened, or another one was asked for meanwhile
    this.marks.select(null);
    this.timeline.showRange(start, end);
    await this.player.seek(start);
    this.player.loop = [start, end];
    this.drawControls();
    this.player.play();
  }

  /** Store a decision on something that was suggested. */
  async decide(body) {
    await this.marks.flush();
    const { path, document: before } = this.marks;
    const annotations = await this.api.post("suggestions/decision", body);
    if (path === body.path && this.marks.document === before) this.marks.adoptStored(annotations); // else the event of it follows
    await this.classes.load(this.api);
  }

  async showMark(mark) {
    this.player.loop = null;
    this.marks.select(mark);
    const start = mark.start_seconds ?? mark.time_seconds;
    this.timeline.showRange(start, mark.end_seconds ?? start);
    await this.player.seek(start);
  }

  async selectNeighbour(direction) {
    const start = (mark) => mark.start_seconds ?? mark.time_seconds;
    const all = [...this.marks.document.segments, ...this.marks.document.events].sort((a, b) => start(a) - start(b));
    if (!all.length) return;
    let place = all.indexOf(this.marks.selected);
    if (place >= 0) place += direction;
    else {
      const later = all.findIndex((mark) => start(mark) > this.player.seconds);
      place = direction > 0 ? (later < 0 ? all.length - 1 : later) : (later < 0 ? all.length : later) - 1;
    }
    await this.showMark(all[Math.min(Math.max(0, place), all.length - 1)]);
  }
}

attempt(() => new Studio().start());
