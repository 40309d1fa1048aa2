// Requests to the server that this page came from. Addresses are relative, so a path prefix does not matter.

const STORED = "csm-key";

export class ServerError extends Error {
  constructor(message, status, field) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

export function addressOf(path) {
  return new URL(path, document.baseURI).href;
}

export function hasKey() {
  return sessionStorage.getItem(STORED) !== null;
}

/** The answer, if it is a good one. Raises ServerError. Where a key is needed, `askForKey(reason)` gives one, or null. */
export async function ask(path, { askForKey, ...options } = {}) {
  for (;;) {
    const response = await sent(path, options);
    if (response.ok) return response;
    const error = await errorOf(response);
    const key = response.status === 401 && askForKey ? await askForKey(hasKey() ? error.message : "") : null;
    if (key === null) throw error;
    sessionStorage.setItem(STORED, key);
  }
}

async function sent(path, { json, signal }) {
  const headers = {};
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(STORED)}`;
  const body = json && JSON.stringify(json);
  if (json) headers["Content-Type"] = "application/json";
  try {
    return await fetch(addressOf(path), { method: json ? "POST" : "GET", headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is it running?", 0);
  }
}

async function errorOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's own page, for one.
  }
  const detail = typeof body.detail === "string" ? body.detail : `The server answered with status ${response.status}.`;
  const wait = Number(response.headers.get("Retry-After"));
  const message = wait ? `${detail} Try again in ${wait} s.` : detail;
  return new ServerError(message, response.status, body.field);
}
