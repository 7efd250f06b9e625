/** The verdict: categories, reason, note and the buttons, always at the same place. */
import { html } from "../../html.js";
import { t } from "../../texts.js";

const REASONS = ["policy", "context", "art", "news", "mistaken", "unclear"];

/** Categories that a verdict can name: those that the policy scored, strictest first. @param {any} item @returns {string[]} */
export const categoriesOf = (item) => [
  ...new Set([...item.decision.categories.map((/** @type {any} */ one) => one.category), ...Object.keys(item.decision.scores ?? {})]),
];

/**
 * @param {{
 *   item: any, draft: import("./work.js").Draft, mayList: boolean, canUndo: boolean,
 *   onEdit: (change: Partial<import("./work.js").Draft>) => void,
 *   onDecide: (decision: "allow" | "block") => void, onSkip: () => void, onUndo: () => void,
 * }} props
 */
export function Verdict({ item, draft, mayList, canUndo, onEdit, onDecide, onSkip, onUndo }) {
  const categories = item ? categoriesOf(item) : [];
  /** @param {any} event */
  const leave = (event) => event.key === "Escape" && document.getElementById("review-case")?.focus();
  return html`<section class="verdict" aria-label=${t("review.verdict")}>
    <div class="verdict-say">
      <fieldset class="chips" disabled=${!item}><legend>${t("review.categories")}</legend>
        ${categories.map((name, index) => html`<button type="button" key=${name} class="chip" aria-pressed=${draft.categories.includes(name)}
          onClick=${() => onEdit({ categories: toggled(draft.categories, name) })}>${index < 9 && html`<kbd aria-hidden="true">${index + 1}</kbd>`}<span class="cut">${name}</span></button>`)}
      </fieldset>
      <label class="verdict-reason">${t("review.reason")}
        <input list="review-reasons" maxlength="256" autocomplete="off" value=${draft.reason} disabled=${!item} onKeyDown=${leave}
          onInput=${(/** @type {any} */ event) => onEdit({ reason: event.target.value })} />
        <datalist id="review-reasons">${REASONS.map((name) => html`<option key=${name} value=${t(`review.reasons.${name}`)} />`)}</datalist></label>
      <label class="verdict-note"><span>${t("review.note")} <kbd aria-hidden="true">N</kbd></span>
        <textarea id="review-note" rows="1" maxlength="4000" value=${draft.note} disabled=${!item} onKeyDown=${leave}
          onInput=${(/** @type {any} */ event) => onEdit({ note: event.target.value })}></textarea></label>
    </div>
    <div class="verdict-do">
      <button type="button" class="allow big" disabled=${!item} onClick=${() => onDecide("allow")} aria-keyshortcuts="A">${t("decision.allow")} <kbd aria-hidden="true">A</kbd></button>
      <button type="button" class="block big" disabled=${!item} onClick=${() => onDecide("block")} aria-keyshortcuts="B">${t("decision.block")} <kbd aria-hidden="true">B</kbd></button>
      <button type="button" disabled=${!item} onClick=${onSkip} aria-keyshortcuts="S">${t("review.skip")} <kbd aria-hidden="true">S</kbd></button>
      <button type="button" disabled=${!canUndo} onClick=${onUndo} aria-keyshortcuts="U">${t("review.undo")} <kbd aria-hidden="true">U</kbd></button>
      <button type="button" class="toggle" disabled=${!item} aria-pressed=${draft.secondOpinion} aria-keyshortcuts="O"
        onClick=${() => onEdit({ secondOpinion: !draft.secondOpinion })}>${t("review.second_opinion")} <kbd aria-hidden="true">O</kbd></button>
      ${mayList && html`<button type="button" class="toggle" disabled=${!item} aria-pressed=${draft.addToList} aria-keyshortcuts="L"
        onClick=${() => onEdit({ addToList: !draft.addToList })}>${t("review.add_to_list")} <kbd aria-hidden="true">L</kbd></button>`}
    </div>
  </section>`;
}

/** @param {string[]} names @param {string} name */
export const toggled = (names, name) => (names.includes(name) ? names.filter((one) => one !== name) : [...names, name]);
