/** What is known of a case beside its picture: scores with thresholds and evidence, policy, shadow, attributes, hashes. */
import { html } from "../../html.js";
import { Decision } from "../../parts/decision.js";
import { toast } from "../../parts/toast.js";
import { link } from "../../router.js";
import { ago, number, percent, t, time } from "../../texts.js";
import { ScoreBar } from "../score_bar.js";

const LEAST = 0.05; // of a score that is worth a line and a box: below it nothing was seen there

/** What was seen for a category, each with a key of its own; the strongest of one that fired always. @param {any} category @returns {any[]} */
const seenFor = (category) =>
  category.evidence
    .map((/** @type {any} */ one, /** @type {number} */ index) => ({ ...one, key: `${category.category}/${index}`, decision: category.decision }))
    .filter((/** @type {any} */ one, /** @type {number} */ index) => one.score >= LEAST || (index === 0 && category.decision !== "allow"));

/** Boxes to draw. @param {any} item the case */
export const boxesOf = (item) => item.decision.categories.flatMap(seenFor).filter((/** @type {any} */ one) => one.box);

/** @param {{item: any, marked: string | null, onMark: (key: string | null) => void}} props */
export function Scores({ item, marked, onMark }) {
  return html`<section class="card" aria-labelledby="review-scores">
    <h3 id="review-scores">${t("review.scores")}</h3>
    ${item.decision.categories.length === 0 && html`<p class="quiet">${t("review.no_categories")}</p>`}
    ${item.decision.categories.map((/** @type {any} */ category) => html`<div class="review-score" key=${category.category}>
      <${ScoreBar} name=${category.category} score=${category.score} decision=${category.decision} reviewAt=${category.review_at} blockAt=${category.block_at} />
      ${seenFor(category).map((one) => {
        const { key } = one;
        const where = one.frame_ms === null ? one.view : `${one.view}, ${number(one.frame_ms / 1000, 1)} s`;
        return html`<button type="button" class="seen-line" key=${key} aria-pressed=${marked === key}
          onClick=${() => onMark(marked === key ? null : key)} onMouseEnter=${() => onMark(key)} onMouseLeave=${() => onMark(null)}>
          <span class="wrap">${one.kind === "list" ? t("review.on_list", { list: one.label }) : one.label}</span>
          <span class="quiet">${one.kind === "list" ? "" : where}</span><span class="number">${percent(one.score)}</span></button>`;
      })}
    </div>`)}
  </section>`;
}

/** @param {{item: any}} props */
export function Facts({ item }) {
  const { decision } = item;
  const attributes = Object.entries(decision.attributes ?? {});
  return html`<section class="card" aria-labelledby="review-facts">
    <h3 id="review-facts">${t("review.facts")}</h3>
    <dl class="case-list">
      <${Fact} name="policy">${decision.policy.name}@${decision.policy.version}<//>
      ${decision.shadow && html`<${Fact} name="shadow"><span class="row"><span class="mono">${decision.shadow.policy.name}@${decision.shadow.policy.version}</span><${Decision} decision=${decision.shadow.decision} /></span><//>`}
      <${Fact} name="outcome"><${Decision} decision=${decision.outcome} /><//>
      <${Fact} name="at"><time datetime=${decision.at} title=${time(decision.at)}>${ago(decision.at)}</time><//>
      ${decision.key && html`<${Fact} name="key">${decision.key}<//>`}
      ${attributes.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${typeof value === "string" ? value : JSON.stringify(value)}</dd></div>`)}
      ${decision.external_id && html`<${Fact} name="external_id"><${Copied} value=${decision.external_id} /><//>`}
      <${Fact} name="sha256"><${Copied} value=${decision.image.sha256} /><//>
      ${decision.image.pdq && html`<${Fact} name="pdq"><${Copied} value=${decision.image.pdq} /><//>`}
      <${Fact} name="decision"><a class="mono" href=${link("decisions", decision.id)}>${decision.id}</a><//>
    </dl>
    ${decision.warnings.map((/** @type {string} */ text) => html`<p key=${text} class="quiet">${text}</p>`)}
  </section>`;
}

/** @param {{name: string, children?: any}} props */
const Fact = ({ name, children }) => html`<div><dt>${t(`review.fact.${name}`)}</dt><dd>${children}</dd></div>`;

/** @param {{value: string}} props */
function Copied({ value }) {
  const copy = () => navigator.clipboard?.writeText(value).then(() => toast(t("app.copied")), () => {});
  return html`<span class="copied"><span class="mono cut" title=${value}>${value}</span>
    <button type="button" class="plain small" onClick=${copy}>${t("app.copy")}</button></span>`;
}
