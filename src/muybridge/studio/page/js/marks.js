/** The marks of the open video: changed, undone, and saved after every change. */

const MAX_UNDO = 500;
const RETRY_MILLISECONDS = 3000;
const REFUSED = [409, 422]; // statuses of a document that the server will never store: changed meanwhile, or with a wrong mark

/** Whether the same request may succeed later: no answer, a slow or busy server, or one that failed. */
const mayPass = (status) => status === undefined || status === 408 || status === 429 || status >= 500;

const isSame = (a, b) =>
  a.label === b.label && a.start_seconds === b.start_seconds && a.end_seconds === b.end_seconds && a.time_seconds === b.time_seconds;

/** The bounds that contain two frames, given by theirs. */
const span = (a, b) => [Math.min(a[0], b[0]), Math.max(a[1], b[1])];

export class Marks extends EventTarget {
  constructor() {
    super();
    this.clear();
    this.annotator = "";
  }

  clear() {
    this.path = null;
    this.document = { segments: [], events: [], reviewed: [], rejected: [] };
    this.past = [];
    this.future = [];
    this.selected = null;
    this.open = new Map(); // class to the bounds of the frame where a segment begins that has no end yet
    this.openReview = null; // bounds of such a frame
    this.isDirty = false;
    this.saving = null;
  }

  close() {
    this.wanted = null;
    this.clear();
    this.dispatchEvent(new Event("change"));
  }

  /** Answers may come in another order than they were asked for: only the video opened last is shown, and nothing is marked before. */
  async load(api, path) {
    const wanted = (this.wanted = { path });
    await this.flush();
    if (this.wanted !== wanted) return;
    this.clear();
    this.api = api;
    const answer = await api.get("annotations", { path });
    if (this.wanted !== wanted) return;
    this.path = path;
    this.adopt(answer);
    this.report("");
  }

  adopt(answer) {
    this.document = answer;
    this.selected = this.selected && this.find(this.selected);
    this.dispatchEvent(new Event("change"));
  }

  /** A mark as it is now: once stored, it comes back as another object. */
  find(mark) {
    const { segments, events, reviewed } = this.document;
    const all = [...segments, ...events, ...reviewed];
    return all.find((one) => one === mark) ?? all.find((one) => isSame(one, mark)) ?? null;
  }

  /** Another tab or the correction of a suggestion changed the file, or this page did and went on. */
  async reload(revision) {
    await this.flush();
    const before = this.document;
    if (this.isDirty || !this.path || before.revision === revision) return;
    const answer = await this.api.get("annotations", { path: this.path });
    if (this.document === before && answer.revision !== before.revision) this.adoptStored(answer); // else it was marked meanwhile
  }

  /** What the server stored for a suggestion; undo does not go back behind it. */
  adoptStored(answer) {
    this.past = [];
    this.future = [];
    this.adopt(answer);
  }

  report(state) {
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  fail(sentence) {
    this.dispatchEvent(new CustomEvent("failure", { detail: sentence }));
  }

  change(changes) {
    if (!this.path) {
      this.selected = null;
      this.fail("The marks of this video are not loaded yet; mark it again in a moment.");
      return;
    }
    this.past.push(this.snapshot());
    if (this.past.length > MAX_UNDO) this.past.shift();
    this.future = [];
    this.apply(changes);
  }

  snapshot() {
    const { segments, events, reviewed, rejected } = this.document;
    return { segments, events, reviewed, rejected };
  }

  apply(changes) {
    this.document = { ...this.document, ...changes };
    this.isDirty = true;
    this.dispatchEvent(new Event("change"));
    this.flush();
  }

  undo() {
    if (!this.past.length) return;
    this.future.push(this.snapshot());
    this.selected = null;
    this.apply(this.past.pop());
  }

  redo() {
    if (!this.future.length) return;
    this.past.push(this.snapshot());
    this.selected = null;
    this.apply(this.future.pop());
  }

  /** Save what is not saved yet; changes made meanwhile are saved after it. */
  flush() {
    if (!this.saving && this.isDirty) this.saving = this.save().finally(() => (this.saving = null));
    return this.saving ?? Promise.resolve();
  }

  async save() {
    this.report("Saving…");
    while (this.isDirty) {
      const sent = this.document;
      this.isDirty = false;
      try {
        const stored = await this.api.put("annotations", { path: this.path }, sent);
        if (this.document === sent) this.adopt(stored);
        else this.document = { ...this.document, revision: stored.revision };
      } catch (error) {
        await this.recover(error);
        return;
      }
    }
    this.report("Saved");
  }

  /** Only what the server refuses is given up for what is stored; all else is kept, and sent again with the next change at the latest. */
  async recover(error) {
    this.isDirty = true;
    this.report("Not saved");
    this.fail(error.message);
    const isRefused = REFUSED.includes(error.status);
    const stored = isRefused ? await this.api.get("annotations", { path: this.path }).catch(() => null) : null;
    if (stored) {
      this.isDirty = false;
      this.adoptStored(stored);
    } else if (isRefused || mayPass(error.status)) {
      clearTimeout(this.retry);
      this.retry = setTimeout(() => this.flush(), RETRY_MILLISECONDS);
    }
  }

  select(mark) {
    this.selected = mark;
    this.dispatchEvent(new Event("change"));
  }

  addSegment(label, start, end) {
    if (!(end > start)) return;
    const segment = { label, start_seconds: start, end_seconds: end, annotator: this.annotator, created: null, origin: "manual", split: null, group: null };
    this.selected = segment;
    this.change({ segments: [...this.document.segments, segment] });
  }

  addEvent(label, seconds) {
    const event = { label, time_seconds: seconds, annotator: this.annotator, created: null };
    this.selected = event;
    this.change({ events: [...this.document.events, event] });
  }

  /** A class's key: the segment goes from the frame shown the first time to that shown the second time, with both, in either order. */
  toggle(label, frame) {
    const first = this.open.get(label);
    if (!first) {
      this.open.set(label, frame);
      this.dispatchEvent(new Event("change"));
      return;
    }
    this.open.delete(label);
    this.addSegment(label, ...span(first, frame));
  }

  toggleReview(frame) {
    const first = this.openReview;
    this.openReview = first ? null : frame;
    if (first) this.addReview(...span(first, frame));
    else this.dispatchEvent(new Event("change"));
  }

  addReview(start, end) {
    const range = { start_seconds: start, end_seconds: end, annotator: this.annotator };
    const others = this.document.reviewed.filter((one) => one.end_seconds <= start || one.start_seconds >= end);
    for (const one of this.document.reviewed) {
      if (others.includes(one)) continue;
      range.start_seconds = Math.min(range.start_seconds, one.start_seconds);
      range.end_seconds = Math.max(range.end_seconds, one.end_seconds);
    }
    this.change({ reviewed: [...others, range] });
  }

  cancelOpen() {
    this.open.clear();
    this.openReview = null;
    this.select(null);
  }

  /** Change a mark, which may have been stored since it was shown. */
  revise(shown, values) {
    const mark = this.find(shown);
    if (!mark) return;
    const revised = { ...mark, ...values };
    if (revised.end_seconds !== undefined && !(revised.end_seconds > revised.start_seconds)) return;
    this.selected = revised;
    this.change(this.mapLists((one) => (one === mark ? revised : one)));
  }

  deleteSelected() {
    const mark = this.selected;
    if (!mark) return;
    this.selected = null;
    this.change(this.mapLists((one) => (one === mark ? null : one)));
  }

  mapLists(change) {
    const map = (list) => list.map(change).filter((one) => one !== null);
    return { segments: map(this.document.segments), events: map(this.document.events), reviewed: map(this.document.reviewed) };
  }
}
