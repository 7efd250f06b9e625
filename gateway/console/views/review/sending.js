/** Verdicts that the gateway has not answered, and those that it refused: nothing disappears without a word. */
import { html } from "../../html.js";
import { t } from "../../texts.js";

/** @param {{unsent: import("./unsent.js").Unsent}} props */
export function Sending({ unsent }) {
  const late = unsent.failures > 0 ? unsent.waiting : [];
  if (!late.length && !unsent.refused.length) return null;
  return html`<div class="sending">
    ${late.length > 0 && html`<div class="row"><strong>${t("review.unsent", { count: late.length })}</strong>
      <span class="quiet cut">${late.map((one) => `${one.title}: ${t(`decision.${one.body.decision}`)}`).join(", ")}</span>
      <button type="button" onClick=${() => void unsent.send()}>${t("review.send_now")}</button></div>`}
    ${unsent.refused.map((one) => html`<div class="row" key=${`${one.id}${one.body.claim}`}>
      <strong>${t("review.refused", { title: one.title, decision: t(`decision.${one.body.decision}`) })}</strong>
      <span>${one.problem}</span>${one.body.note && html`<span class="quiet wrap">${one.body.note}</span>`}
      <button type="button" onClick=${() => unsent.dismiss(one)}>${t("review.dismiss")}</button></div>`)}
  </div>`;
}
