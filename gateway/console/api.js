/** Requests to the gateway that served this page. */

const TIMEOUT_MS = 30_000;

/** What the gateway answers instead of a result: its problem document, or that it could not be reached. */
export class Problem extends Error {
  /**
   * @param {number} status HTTP status; 0 where there was no answer
   * @param {string} code stable, as docs/errors.md lists them; `offline` and `timeout` are ours
   * @param {string} detail for people
   * @param {string} [requestId]
   */
  constructor(status, code, detail, requestId = "") {
    super(detail);
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.requestId = requestId;
  }
}

/** Dispatches `lost` and `found` of the connection, and `signedout`. */
export const events = new EventTarget();

let reachable = true;

/** @param {boolean} now */
function setReachable(now) {
  const changed = now !== reachable;
  reachable = now; // before the event: who hears it asks isReachable()
  if (changed) events.dispatchEvent(new Event(now ? "found" : "lost"));
}

/** Whether the latest request was answered. */
export const isReachable = () => reachable;

/**
 * Send a request and return the answer, whatever its status.
 * @param {string} method
 * @param {string} path
 * @param {{body?: any, form?: FormData, headers?: Record<string, string>, signal?: AbortSignal, timeoutMs?: number}} [options]
 * @returns {Promise<Response>}
 * @throws {Problem} no answer in time
 */
export async function send(method, path, options = {}) {
  const limit = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  /** @type {Record<string, string>} */
  const headers = { ...options.headers };
  /** @type {BodyInit | undefined} */
  let body = options.form;
  if (options.body !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(options.body);
  }
  try {
    const answer = await fetch(path, { method, headers, body, signal, credentials: "same-origin", cache: "no-store" });
    setReachable(true);
    return answer;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    if (limit.aborted) throw new Problem(0, "timeout", "The gateway did not answer in time.");
    setReachable(false);
    throw new Problem(0, "offline", "The gateway cannot be reached.");
  }
}

/**
 * As `send`, and return the JSON of a good answer; null of one without a body.
 * @param {string} method
 * @param {string} path
 * @param {Parameters<typeof send>[2]} [options]
 * @returns {Promise<any>}
 * @throws {Problem}
 */
export async function call(method, path, options = {}) {
  const answer = await send(method, path, options);
  const text = await answer.text();
  let parsed = null;
  try {
    parsed = text ? JSON.parse(text) : null;
  } catch {
    if (answer.ok) throw new Problem(answer.status, "not_json", "The answer is not from this gateway.");
  }
  if (answer.ok) return parsed;
  if (answer.status === 401) events.dispatchEvent(new Event("signedout"));
  const id = answer.headers.get("X-Request-ID") ?? "";
  throw new Problem(answer.status, parsed?.code ?? "error", parsed?.detail ?? `HTTP ${answer.status}`, id);
}

/**
 * Return a path with a query; what is null, undefined or empty is left out.
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} query
 */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

/** @typedef {Parameters<typeof send>[2]} Options */
export const api = {
  /** @param {string} path @param {Options} [options] */
  get: (path, options) => call("GET", path, options),
  /** @param {string} path @param {any} body @param {Options} [options] */
  post: (path, body, options) => call("POST", path, { ...options, body }),
  /** @param {string} path @param {any} body @param {Options} [options] */
  put: (path, body, options) => call("PUT", path, { ...options, body }),
  /** @param {string} path @param {any} body @param {Options} [options] */
  patch: (path, body, options) => call("PATCH", path, { ...options, body }),
  /** @param {string} path @param {Options} [options] */
  del: (path, options) => call("DELETE", path, options),
  /** @param {string} path @param {FormData} form @param {Options} [options] */
  form: (path, form, options) => call("POST", path, { ...options, form }),
};
