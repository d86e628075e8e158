/** Elements made without HTML: names of files and classes only ever become text. */

/** Make an element; `properties` are set on it, and `children` are elements or text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name.startsWith("data-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function makeButton(text, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ...properties }, text);
}

export function makeSwatch(color) {
  const swatch = make("span", { className: "swatch", "aria-hidden": "true" });
  swatch.style.background = color;
  return swatch;
}

/** Set a text where it differs: what stays is neither drawn nor announced again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let numFields = 0;

/** A field with its title above it. */
export function makeField(title, input) {
  numFields += 1;
  input.id = `field-${numFields}`;
  return make("div", { className: "field" }, make("label", { htmlFor: input.id }, title), input);
}

/** `1 video`, `2 videos`, `3 classes`. */
export function formatCount(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}

export const find = (id) => document.getElementById(id);

/** Seconds as h:mm:ss.mmm. */
export function formatSeconds(seconds, decimals = 3) {
  const total = Math.max(0, seconds);
  const minutes = Math.floor(total / 60);
  const rest = (total - 60 * minutes).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

let noticeTimer = 0;

/** Show one sentence at the top of the page; errors stay until the next one or for 12 seconds. */
export function showNotice(text) {
  const notice = find("notice");
  notice.textContent = text;
  notice.hidden = !text;
  clearTimeout(noticeTimer);
  if (text) noticeTimer = setTimeout(() => showNotice(""), 12000);
}

/** Run an asynchronous action and show its error. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") showNotice(error.message);
    return undefined;
  }
}
