/** Verdicts on their way to the gateway: each is kept until it is answered, and sent again as often as it takes. */
import { api, events, Problem } from "../../api.js";

/**
 * @typedef {object} Entry
 * @property {string} id of the case
 * @property {string} title what the reviewer knows the case by
 * @property {Record<string, any>} body of the verdict; its claim makes it safe to send twice
 * @property {string} [problem] why it was refused
 */

const KEPT = "console.review.unsent";
const TIMEOUT_MS = 15_000;
const RETRY_MS = [1000, 2000, 5000, 10_000];

/** Whether sending the same again cannot help. @param {any} error */
const isFinal = (error) =>
  error instanceof Problem && error.status >= 400 && error.status < 500 && ![401, 408, 425, 429].includes(error.status);

/**
 * Dispatches `change`; `kept` with the entry and the answer; `refused` with the entry and the problem. A reloaded page
 * goes on with what an earlier one left.
 */
export class Unsent extends EventTarget {
  constructor() {
    super();
    /** @type {Entry[]} */
    this.waiting = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    /** @type {Entry[]} */
    this.refused = [];
    /** @type {Promise<void> | null} */
    this.sending = null;
    this.failures = 0;
    /** @type {number | undefined} */
    this.timer = undefined;
    const again = () => void this.send();
    events.addEventListener("found", again);
    addEventListener("online", again);
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
  }

  /** @param {Entry} entry */
  add(entry) {
    this.waiting.push(entry);
    this.#changed();
    void this.send();
  }

  /** Send what waits, in order; ends when nothing waits or the gateway does not take it. @returns {Promise<void>} */
  send() {
    this.sending ??= this.#sendAll().finally(() => {
      this.sending = null;
      clearTimeout(this.timer);
      if (this.waiting.length) this.timer = setTimeout(() => void this.send(), RETRY_MS[Math.min(this.failures, RETRY_MS.length) - 1] ?? RETRY_MS[0]);
    });
    return this.sending;
  }

  async #sendAll() {
    const tried = new Set();
    for (let entry; (entry = this.waiting.find((one) => !tried.has(one))); ) {
      tried.add(entry);
      try {
        const answer = await api.post(`/v1/reviews/${encodeURIComponent(entry.id)}/verdict`, entry.body, { timeoutMs: TIMEOUT_MS });
        this.failures = 0;
        this.#take(entry);
        this.dispatchEvent(new CustomEvent("kept", { detail: { entry, answer } }));
      } catch (error) {
        if (isFinal(error)) {
          const problem = /** @type {Problem} */ (error);
          this.refused.push({ ...entry, problem: problem.detail });
          this.#take(entry);
          this.dispatchEvent(new CustomEvent("refused", { detail: { entry, problem } }));
          continue;
        }
        this.failures += 1;
        if (!(error instanceof Problem) || error.status === 0 || error.status === 401) return;
      }
    }
  }

  /** Forget a refused verdict that somebody has read. @param {Entry} entry */
  dismiss(entry) {
    this.refused = this.refused.filter((one) => one !== entry);
    this.#changed();
  }

  /** @param {string} id */
  has(id) {
    return this.waiting.some((entry) => entry.id === id);
  }

  /** @param {Entry} entry */
  #take(entry) {
    this.waiting = this.waiting.filter((one) => one !== entry);
    this.#changed();
  }

  #changed() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.waiting));
    this.dispatchEvent(new Event("change"));
  }
}
