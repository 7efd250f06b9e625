/** Short messages at the edge of the page, read aloud too. */
import { html, useEffect, useState } from "../html.js";

const SHOWN_MS = 6000;
const toasts = new EventTarget();

/** @param {string} text @param {"info" | "error"} [kind] */
export const toast = (text, kind = "info") => toasts.dispatchEvent(new CustomEvent("toast", { detail: { text, kind } }));

export function Toasts() {
  const [shown, setShown] = useState(/** @type {{id: number, text: string, kind: string}[]} */ ([]));
  useEffect(() => {
    let last = 0;
    /** @param {any} event */
    const show = (event) => {
      const id = ++last;
      setShown((before) => [...before.slice(-3), { id, ...event.detail }]);
      setTimeout(() => setShown((before) => before.filter((one) => one.id !== id)), SHOWN_MS);
    };
    toasts.addEventListener("toast", show);
    return () => toasts.removeEventListener("toast", show);
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${shown.map((one) => html`<p key=${one.id} class=${`toast toast-${one.kind}`}>${one.text}</p>`)}
  </div>`;
}
