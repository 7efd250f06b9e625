/** How much this session did, and when a break is due. No comparison with anybody. */
import { html, useEffect, useState } from "../../html.js";
import { Dialog } from "../../parts/dialog.js";
import { t } from "../../texts.js";

const KEPT = "console.review.session";
const MINUTE_MS = 60_000;
const MORE_MINUTES = 10;

/** @param {number} breakAfter minutes */
export function useBreaks(breakAfter) {
  const [state, set] = useState(() => ({ since: Date.now(), minutes: 0, cases: 0, due: 0, ...JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") }));
  const keep = (/** @type {(before: typeof state) => typeof state} */ change) =>
    set((/** @type {typeof state} */ before) => {
      const next = change(before);
      sessionStorage.setItem(KEPT, JSON.stringify(next));
      return next;
    });
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && keep((before) => ({ ...before, minutes: before.minutes + 1, due: before.due + 1 })), MINUTE_MS);
    return () => clearInterval(timer);
  }, []);
  return {
    session: { cases: state.cases, minutes: state.minutes },
    isDue: state.due >= breakAfter,
    count: (/** @type {number} */ change) => keep((before) => ({ ...before, cases: Math.max(0, before.cases + change) })),
    later: () => keep((before) => ({ ...before, due: breakAfter - MORE_MINUTES })),
    rested: () => keep((before) => ({ ...before, due: 0 })),
  };
}

/** @param {{open: boolean, session: {cases: number, minutes: number}, onPause: () => void, onLater: () => void}} props */
export function BreakDialog({ open, session, onPause, onLater }) {
  return html`<${Dialog} open=${open} title=${t("review.break.title")} onClose=${onLater}>
    <div class="stack"><p>${t("review.break.text", session)}</p>
      <div class="row"><button type="button" class="primary" onClick=${onPause}>${t("review.break.take")}</button>
        <button type="button" onClick=${onLater}>${t("review.break.later", { minutes: MORE_MINUTES })}</button></div></div>
  <//>`;
}
