/** Requests to the server. A failed one throws an Error with the server's sentence and its `status`. */

export async function request(method, address, body, signal) {
  const options = { method, signal, headers: {} };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/api/${address}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; start `muybridge studio` again.");
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    const error = new Error(answer.detail ?? `the server answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  if (response.status === 204) return null;
  return (response.headers.get("content-type") ?? "").includes("json") ? response.json() : response.text();
}

/** `name?key=value`; null and undefined are left out, arrays repeat their key. */
export function address(name, query = {}) {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined) parameters.append(key, one);
    }
  }
  const text = parameters.toString();
  return text ? `${name}?${text}` : name;
}

/** Send a file as a form; `report` gets the bytes that are sent. */
export function upload(target, file, report) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const fail = () => reject(new Error(sending.response?.detail ?? "the upload broke off; perhaps it is larger than the server's --max-upload-gib"));
    sending.open("POST", target);
    sending.responseType = "json";
    sending.upload.onprogress = (event) => report(event.loaded);
    sending.onload = () => (sending.status < 300 ? resolve(sending.response) : fail());
    sending.onerror = fail;
    const form = new FormData();
    form.append("file", file);
    sending.send(form);
  });
}

/** The interface of one project. */
export class ProjectApi {
  constructor(id) {
    this.id = id;
    this.prefix = `projects/${encodeURIComponent(id)}`;
    this.shared = new Map(); // slow answers that are waited for, by name
  }

  /** What several panels want at once is asked for once: a browser has six connections, and the video needs one of them. */
  getShared(name) {
    if (!this.shared.has(name)) this.shared.set(name, this.get(name).finally(() => this.shared.delete(name)));
    return this.shared.get(name);
  }

  get(name, query, signal) {
    return request("GET", `${this.prefix}/${address(name, query)}`, undefined, signal);
  }

  put(name, query, body) {
    return request("PUT", `${this.prefix}/${address(name, query)}`, body);
  }

  post(name, body = undefined) {
    return request("POST", `${this.prefix}/${name}`, body);
  }

  delete(name) {
    return request("DELETE", `${this.prefix}/${name}`);
  }

  /** Address for `src` attributes. */
  link(name, query) {
    return `/api/${this.prefix}/${address(name, query)}`;
  }
}
