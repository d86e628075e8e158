/** The time stamps of a video's frames, read from the server in pages as they are needed. */

const PAGE_FRAMES = 2000;
const TOLERANCE_SECONDS = 1e-6;

export class FrameTimes {
  constructor(api, path) {
    this.api = api;
    this.path = path;
    this.pages = new Map();
    this.numFrames = 0;
    this.duration = 0;
    this.rate = 25;
  }

  async load() {
    await this.readPage(0);
    return this;
  }

  /** The time stamps of a page; where the server did not answer, it is asked again the next time. */
  async readPage(number) {
    if (!this.pages.has(number)) this.pages.set(number, this.fetchPage(number));
    try {
      return await this.pages.get(number);
    } catch (error) {
      this.pages.delete(number);
      throw error;
    }
  }

  async fetchPage(number) {
    const query = { path: this.path, start_index: number * PAGE_FRAMES, count: PAGE_FRAMES };
    const times = await this.api.get("frames", query);
    this.numFrames = times.num_frames;
    this.duration = times.duration_seconds;
    this.rate = this.duration > 0 ? this.numFrames / this.duration : 25;
    return times.seconds;
  }

  /** The time stamp of a frame; that after the last frame is the duration. */
  async secondsOf(index) {
    if (index >= this.numFrames) return this.duration;
    const seconds = await this.readPage(Math.floor(Math.max(0, index) / PAGE_FRAMES));
    return seconds[Math.max(0, index) % PAGE_FRAMES];
  }

  /** The index of the frame shown at a time: the last one that starts at or before it. */
  async indexAt(seconds) {
    const target = seconds + TOLERANCE_SECONDS;
    let page = Math.floor(Math.min(this.numFrames - 1, Math.max(0, seconds * this.rate)) / PAGE_FRAMES);
    const lastPage = Math.floor((this.numFrames - 1) / PAGE_FRAMES);
    let times = await this.readPage(page);
    while (page > 0 && times[0] > target) times = await this.readPage(--page);
    while (page < lastPage && (await this.readPage(page + 1))[0] <= target) times = await this.readPage(++page);
    let low = 0;
    let high = times.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (times[middle] <= target) low = middle;
      else high = middle - 1;
    }
    return page * PAGE_FRAMES + low;
  }

  /** The border between frames that is nearest to a time. */
  async snap(seconds) {
    const index = await this.indexAt(seconds);
    const [start, end] = [await this.secondsOf(index), await this.secondsOf(index + 1)];
    return seconds - start <= end - seconds ? start : end;
  }
}
