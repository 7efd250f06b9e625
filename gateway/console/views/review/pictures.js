/** The pictures of one case, each asked for once: every view of a kept one is a row of the audit. */
import { send, withQuery } from "../../api.js";

/** @typedef {{state: "ready", url: string} | {state: "gone" | "failed"}} Loaded */

export class Pictures {
  /** @param {any} item the case @param {string | null} reviewer */
  constructor(item, reviewer) {
    this.item = item;
    this.reviewer = reviewer;
    /** @type {Map<number, Promise<Loaded>>} */
    this.loaded = new Map();
  }

  /** How many stills there are. */
  get count() {
    const { state, stills } = this.item.image;
    if (state === "linked") return 1;
    return state === "kept" ? Math.max(1, stills ?? 1) : 0;
  }

  /** @param {number} still @returns {Promise<Loaded>} */
  get(still) {
    const before = this.loaded.get(still);
    if (before) return before;
    const loading = (this.item.image.state === "linked" ? this.#link() : this.#fetch(still)).then((result) => {
      if (result.state === "failed") this.loaded.delete(still);
      return result;
    });
    this.loaded.set(still, loading);
    return loading;
  }

  /** @returns {Promise<Loaded>} */
  #link() {
    const { url } = this.item.image;
    return new Promise((resolve) => {
      const image = new Image();
      image.referrerPolicy = "no-referrer";
      image.onload = () => resolve({ state: "ready", url });
      image.onerror = () => resolve({ state: "gone" });
      image.src = url;
    });
  }

  /** @param {number} still @returns {Promise<Loaded>} */
  async #fetch(still) {
    const path = withQuery(`/v1/reviews/${encodeURIComponent(this.item.id)}/image`, { still, reviewer: this.reviewer });
    try {
      const answer = await send("GET", path);
      if (answer.status === 404) return { state: "gone" };
      return answer.ok ? { state: "ready", url: URL.createObjectURL(await answer.blob()) } : { state: "failed" };
    } catch {
      return { state: "failed" };
    }
  }

  /** Free what was loaded. */
  async close() {
    for (const loading of this.loaded.values()) {
      const one = await loading;
      if (one.state === "ready" && one.url.startsWith("blob:")) URL.revokeObjectURL(one.url);
    }
    this.loaded.clear();
  }
}
