/** What to ask: a policy and perhaps a second one, a classifier, or labels typed freely. */
import { html } from "../../html.js";
import { t } from "../../texts.js";

const WAYS = ["policy", "labels", "classifier"];
const MODES = ["softmax", "independent"];
const VIEWS = ["full", "tiles", "center"];

/**
 * @param {{question: import("./ask.js").Question, onChange: (part: Partial<import("./ask.js").Question>) => void,
 *   policies: string[], classifiers: string[]}} props
 */
export function QuestionForm({ question, onChange, policies, classifiers }) {
  const select = (/** @type {string} */ name, /** @type {string[]} */ choices, /** @type {string | null} */ none, /** @type {(choice: string) => string} */ say = String) => html`
    <label>${t(`try.${name}`)}
      <select value=${question[/** @type {keyof typeof question} */ (name)]} onChange=${(/** @type {any} */ event) => onChange({ [name]: event.target.value })}>
        ${none !== null && html`<option value="">${none}</option>`}
        ${choices.map((choice) => html`<option key=${choice} value=${choice}>${say(choice)}</option>`)}
      </select></label>`;
  return html`<div class="stack question">
    <div class="segments" role="group" aria-label=${t("try.by")}>
      ${WAYS.map((way) => html`<button key=${way} type="button" aria-pressed=${question.by === way ? "true" : "false"} onClick=${() => onChange({ by: /** @type {any} */ (way) })}>${t(`try.by_${way}`)}</button>`)}
    </div>
    ${question.by === "policy" && html`<div class="fields">${select("policy", policies, null)}${select("shadow", policies, t("try.no_shadow"))}</div>`}
    ${question.by === "labels" && html`<label>${t("try.labels")}
      <textarea rows="4" value=${question.labels} spellcheck="true" onInput=${(/** @type {any} */ event) => onChange({ labels: event.target.value })}></textarea>
      <span class="field-hint">${t("try.labels_hint")}</span></label>`}
    ${question.by !== "policy" && html`<div class="fields">
      ${question.by === "classifier" ? select("classifier", classifiers, null) : select("mode", MODES, null, (mode) => t(`try.mode_${mode}`))}
      ${select("views", VIEWS, null, (view) => t(`try.view_${view}`))}
    </div>`}
    <label class="check"><input type="checkbox" checked=${question.heatmap} onChange=${() => onChange({ heatmap: !question.heatmap })} />${t("try.heatmap")}</label>
  </div>`;
}
