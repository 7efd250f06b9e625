/** A decision as a badge: its word and a sign, so that color is never alone. */
import { html } from "../html.js";
import { t } from "../texts.js";

/** @type {Record<string, string>} */
const SIGNS = { allow: "✓", review: "?", block: "✕" };

/** @param {{decision: string | null}} props */
export function Decision({ decision }) {
  const known = decision !== null && decision in SIGNS;
  return html`<span class=${`badge badge-${known ? decision : "none"}`}>
    <span aria-hidden="true">${known ? SIGNS[decision] : "–"}</span>${known ? t(`decision.${decision}`) : t("decision.none")}
  </span>`;
}
