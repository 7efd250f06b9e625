/** Cases in hand: claimed ahead so that hands never wait, extended while they are open, given back on leaving. */
import { api, events, Problem, send } from "../../api.js";
import { Pictures } from "./pictures.js";

/**
 * @typedef {{categories: string[], note: string, reason: string, secondOpinion: boolean, addToList: boolean}} Draft
 * @typedef {{item: any, token: string, until: number, leaseMs: number, pictures: Pictures}} Held
 * @typedef {{order: string, policy: string, category: string, key: string, reason: string}} Filters
 */

const AHEAD = 2; // cases held: the one on the screen and the next
const MOST_HELD = 3; // REVIEW_CLAIMS of the gateway by default: verdicts on their way count too
const POLL_MS = 8000;
const COUNT_MS = 15_000;
const IDLE_MS = 10 * 60_000; // who does nothing for so long has left, and others may have the case
const KEPT = "console.review.held";
const DRAFTS = "console.review.drafts";

/** Dispatches `change`, and `lost` with the case whose claim another has. */
export class Work extends EventTarget {
  /**
   * @param {import("./unsent.js").Unsent} unsent
   * @param {string | null} reviewer
   * @param {Filters} filters
   */
  constructor(unsent, reviewer, filters) {
    super();
    this.unsent = unsent;
    this.reviewer = reviewer;
    this.filters = filters;
    /** @type {Held[]} */
    this.held = [];
    /** @type {{waiting: number, claimed: number, appeals: number, oldest_at: string | null} | null} */
    this.counts = null;
    /** @type {any} */
    this.error = null;
    this.empty = false;
    this.filling = false;
    this.stopped = true;
    this.signedOut = false;
    this.activeAt = Date.now();
    /** @type {{id: string, draft: Draft}[]} */
    this.decided = [];
    /** @type {Record<string, Draft>} */
    this.drafts = JSON.parse(sessionStorage.getItem(DRAFTS) ?? "{}");
    /** @type {AbortController | null} */
    this.watching = null;
    /** @type {number[]} */
    this.timers = [];
  }

  start() {
    this.stopped = false;
    this.watching = new AbortController();
    const { signal } = this.watching;
    const fill = () => void this.fill();
    const active = () => (this.activeAt = Date.now());
    for (const name of ["keydown", "pointerdown", "pointermove"]) addEventListener(name, active, { signal, passive: true });
    addEventListener("pagehide", () => this.leave(), { signal });
    addEventListener("pageshow", (event) => event.persisted && fill(), { signal });
    events.addEventListener("found", fill, { signal });
    events.addEventListener("signedout", () => (this.signedOut = true), { signal });
    this.unsent.addEventListener("change", fill, { signal });
    this.timers = [
      setInterval(() => !document.hidden && fill(), POLL_MS),
      setInterval(() => void this.extend(), 5000),
      setInterval(() => !document.hidden && void this.count(), COUNT_MS),
    ];
    void this.resume().then(() => this.fill()).then(() => this.count()); // counted after: what is in hand counts as in work
  }

  /** Stop, and give back what is held; after a lost session it is kept, since the sign-in comes back to it. */
  stop() {
    this.stopped = true;
    this.watching?.abort();
    this.timers.forEach(clearInterval);
    if (!this.signedOut) this.leave();
    this.held.forEach((held) => void held.pictures.close());
  }

  /** Give back all that is held, in requests that outlive the page. */
  leave() {
    for (const held of this.held) void this.release(held, false, true);
    this.held = [];
    this.changed();
  }

  get current() {
    return this.held[0];
  }

  get hasFilters() {
    return Boolean(this.filters.policy || this.filters.category || this.filters.key || this.filters.reason);
  }

  /** Go on with what was held before a reload or a sign-in. */
  async resume() {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    for (const { id, token } of kept)
      try {
        const { until } = await api.post(`/v1/reviews/${encodeURIComponent(id)}/extend`, { claim: token });
        const item = await api.get(`/v1/reviews/${encodeURIComponent(id)}`);
        this.take({ ...item, claim: { ...item.claim, until, token } });
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
      }
  }

  /** Claim until enough is held. One at a time; the end of the queue is asked for again later. */
  async fill() {
    if (this.filling || this.stopped) return;
    this.filling = true;
    try {
      while (this.held.length < AHEAD && this.held.length + this.unsent.waiting.length < MOST_HELD) {
        const { order, policy, category, key, reason } = this.filters;
        const wanted = Object.fromEntries(Object.entries({ order, policy, category, key, reason, reviewer: this.reviewer }).filter(([, value]) => value));
        const item = await api.post("/v1/reviews/claim", wanted);
        this.error = null;
        this.empty = item === null;
        if (item === null || this.holds(item.id) || this.unsent.has(item.id)) break;
        this.take(item);
        if (this.stopped) this.leave();
      }
    } catch (error) {
      this.error = error;
    } finally {
      this.filling = false;
      this.changed();
    }
  }

  /** @param {any} item @param {boolean} [first] */
  take(item, first = false) {
    const until = new Date(item.claim.until).getTime();
    const held = { item, token: item.claim.token, until, leaseMs: Math.max(until - Date.now(), 15_000), pictures: new Pictures(item, this.reviewer) };
    if (held.pictures.count) void held.pictures.get(0);
    this.held = first ? [held, ...this.held] : [...this.held, held];
    this.changed();
  }

  /** @param {string} id */
  holds(id) {
    return this.held.some(({ item }) => item.id === id);
  }

  /** Keep the claims of what is open, as long as somebody is there. */
  async extend() {
    if (Date.now() - this.activeAt > IDLE_MS) return;
    for (const held of this.held) {
      if (held.until - Date.now() > (held.leaseMs * 2) / 3) continue;
      try {
        const { until } = await api.post(`/v1/reviews/${encodeURIComponent(held.item.id)}/extend`, { claim: held.token });
        held.until = new Date(until).getTime();
      } catch (error) {
        if (error instanceof Problem && [404, 409].includes(error.status)) this.lose(held);
      }
    }
  }

  /** Drop a case that another has. @param {Held} held */
  lose(held) {
    if (!this.held.includes(held)) return;
    const current = held === this.current;
    this.drop(held);
    if (current) this.dispatchEvent(new CustomEvent("lost", { detail: held.item }));
    void this.fill();
  }

  /** @param {Held} held */
  drop(held) {
    this.held = this.held.filter((one) => one !== held);
    void held.pictures.close();
    this.changed();
  }

  /** @param {Held} held @param {boolean} skip @param {boolean} [leaving] */
  async release(held, skip, leaving = false) {
    const path = `/v1/reviews/${encodeURIComponent(held.item.id)}/release`;
    try {
      await send("POST", path, { body: { claim: held.token, skip }, keepalive: leaving });
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // the claim runs out by itself
    }
  }

  /** What a verdict on the case will say; of a new case, the categories that the policy found. @param {any} item @returns {Draft} */
  draft(item) {
    const fired = item.decision.categories.filter((/** @type {any} */ one) => one.decision !== "allow");
    return (
      this.drafts[item.id] ?? {
        categories: fired.map((/** @type {any} */ one) => one.category), note: "", reason: "", secondOpinion: false, addToList: false,
      }
    );
  }

  /** @param {any} item @param {Partial<Draft>} change */
  edit(item, change) {
    this.drafts = { ...this.drafts, [item.id]: { ...this.draft(item), ...change } };
    this.changed();
  }

  /** Give the verdict on the case in hand and go on with the next. @param {"allow" | "block"} decision */
  decide(decision) {
    const held = this.current;
    if (!held) return;
    const draft = this.draft(held.item);
    const body = {
      claim: held.token,
      decision,
      categories: decision === "block" ? draft.categories : [],
      note: draft.note,
      reason: draft.reason,
      ...(this.reviewer ? { reviewer: this.reviewer } : {}),
      ...(draft.addToList ? { add_to_list: true } : {}),
      ...(draft.secondOpinion ? { second_opinion: true } : {}),
    };
    this.decided.push({ id: held.item.id, draft });
    delete this.drafts[held.item.id];
    this.unsent.add({ id: held.item.id, title: title(held.item), body });
    this.drop(held);
    void this.fill();
  }

  /** Leave the case to others, and see it no more for a while. */
  async skip() {
    const held = this.current;
    if (!held) return;
    this.drop(held);
    await this.release(held, true);
    await this.fill();
  }

  /** Take back the latest verdict, and open its case again with what was written. @throws {Problem} */
  async undo() {
    const last = this.decided.at(-1);
    if (!last) return null;
    await this.unsent.send();
    if (this.unsent.has(last.id)) throw new Problem(0, "unsent", "");
    const body = this.reviewer ? { reviewer: this.reviewer } : {};
    try {
      const item = await api.post(`/v1/reviews/${encodeURIComponent(last.id)}/undo`, body);
      this.drafts = { ...this.drafts, [item.id]: last.draft };
      this.take(item, true);
      this.decided.pop();
      return item;
    } catch (error) {
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 401) this.decided.pop();
      throw error;
    }
  }

  /** Choose what comes next; the case in hand stays. @param {Filters} filters */
  async choose(filters) {
    this.filters = filters;
    const [, ...later] = this.held;
    this.held = this.held.slice(0, 1);
    this.changed();
    await Promise.all(later.map((held) => this.release(held, false)));
    await this.fill();
  }

  async count() {
    try {
      this.counts = (await api.get("/v1/reviews?limit=1&state=open")).counts;
      this.changed();
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // an old count is better than none
    }
  }

  changed() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.held.map(({ item, token }) => ({ id: item.id, token }))));
    sessionStorage.setItem(DRAFTS, JSON.stringify(this.drafts));
    this.dispatchEvent(new Event("change"));
  }
}

/** What a reviewer knows a case by. @param {any} item */
export const title = (item) => item.decision.external_id || item.id.slice(0, 12);
