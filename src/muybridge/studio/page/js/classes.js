/** The classes of a project: names, colours, keys. */

export const PALETTE = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988", "#cc3311", "#33bbee", "#997700", "#bbbbbb"];
/** Letters that the page uses itself. */
export const RESERVED_KEYS = "acfrnliozxjkw";

export class Classes extends EventTarget {
  constructor() {
    super();
    this.list = [];
    this.revision = null;
    this.others = new Map(); // colours of classes that are only the network's
  }

  async load(api) {
    if (api !== this.api) this.others.clear();
    this.api = api;
    this.adopt(await api.get("classes"));
  }

  adopt(answer) {
    this.list = answer.classes;
    this.revision = answer.revision;
    this.dispatchEvent(new Event("change"));
  }

  find(name) {
    return this.list.find((one) => one.name === name);
  }

  findByKey(key) {
    return this.list.find((one) => one.key === key);
  }

  /** The colour of a class; one that is only the network's gets the first of the palette that no other has. */
  colorOf(name) {
    const known = this.find(name);
    if (known) return known.color;
    if (!this.others.has(name)) {
      const used = [...this.list.map((one) => one.color), ...this.others.values()];
      this.others.set(name, PALETTE.find((color) => !used.includes(color)) ?? PALETTE[used.length % PALETTE.length]);
    }
    return this.others.get(name);
  }

  async store(list) {
    const styles = list.map(({ name, color, key }) => ({ name, color, key }));
    this.adopt(await this.api.put("classes", {}, { classes: styles, revision: this.revision }));
  }

  async add(name) {
    if (this.find(name)) throw new Error(`There is a class ${name} already.`);
    const used = new Set(this.list.map((one) => one.key));
    const key = [..."1234567890"].find((digit) => !used.has(digit)) ?? null;
    const color = PALETTE[this.list.length % PALETTE.length];
    await this.store([...this.list, { name, color, key }]);
  }

  async restyle(name, change) {
    if (change.key) {
      const owner = this.findByKey(change.key);
      if (owner && owner.name !== name) throw new Error(`The key ${change.key} is that of ${owner.name}.`);
      if (!/^[a-z0-9]$/.test(change.key)) throw new Error("A key is a digit or a small letter.");
      if (RESERVED_KEYS.includes(change.key)) throw new Error(`The key ${change.key} has a meaning already; see Keys.`);
    }
    await this.store(this.list.map((one) => (one.name === name ? { ...one, ...change } : one)));
  }

  async rename(name, newName) {
    if (this.find(newName)) this.adopt(await this.api.post("classes/merge", { names: [name], into: newName }));
    else this.adopt(await this.api.post("classes/rename", { name, new_name: newName }));
  }

  async delete(name) {
    this.adopt(await this.api.post("classes/delete", { name }));
  }
}
