/** What is known of a case beside its picture: scores with thresholds and evidence, policy, shadow, attributes, hashes. */
import { html } from "../../html.js";
import { Decision } from "../../parts/decision.js";
import { toast } from "../../parts/toast.js";
import { link } from "../../router.js";
import { ago, number, t, time } from "../../texts.js";

/** Evidence with a box, each with a key of its own. @param {any} item the case */
export const boxesOf = (item) =>
  item.decision.categories.flatMap((/** @type {any} */ category) =>
    category.evidence
      .map((/** @type {any} */ one, /** @type {number} */ index) => ({ ...one, key: `${category.category}/${index}`, decision: category.decision }))
      .filter((/** @type {any} */ one) => one.kind !== "list"),
  );

/** @param {{item: any, marked: string | null, onMark: (key: string | null) => void}} props */
export function Scores({ item, marked, onMark }) {
  return html`<section class="card" aria-labelledby="review-scores">
    <h3 id="review-scores">${t("review.scores")}</h3>
    ${item.decision.categories.length === 0 && html`<p class="quiet">${t("review.no_categories")}</p>`}
    ${item.decision.categories.map((/** @type {any} */ category) => html`<div class="review-score" key=${category.category}>
      <div class="row spread"><strong class="mono">${category.category}</strong>
        <span class="row"><span class="number">${number(category.score, 2)}</span><${Decision} decision=${category.decision} /></span></div>
      <${Bar} ...${category} />
      ${category.evidence.map((/** @type {any} */ one, /** @type {number} */ index) => {
        const key = `${category.category}/${index}`;
        const where = one.frame_ms === null ? one.view : `${one.view}, ${number(one.frame_ms / 1000, 1)} s`;
        return html`<button type="button" class="seen-line" key=${key} aria-pressed=${marked === key}
          onClick=${() => onMark(marked === key ? null : key)} onMouseEnter=${() => onMark(key)} onMouseLeave=${() => onMark(null)}>
          <span class="wrap">${one.kind === "list" ? t("review.on_list", { list: one.label }) : one.label}</span>
          <span class="quiet">${one.kind === "list" ? "" : where}</span><span class="number">${number(one.score, 2)}</span></button>`;
      })}
    </div>`)}
  </section>`;
}

/** @param {{score: number, decision: string, review_at: number | null, block_at: number | null}} props */
function Bar({ score, decision, review_at: reviewAt, block_at: blockAt }) {
  /** @type {[string, number | null][]} */
  const marks = [["review", reviewAt], ["block", blockAt]];
  const given = marks.filter(([, at]) => at !== null && at !== undefined);
  return html`<div class="review-bar" aria-hidden="true">
    <i class=${`fill fill-${decision}`} style=${{ "--part": score }}></i>
    ${given.map(([name, at]) => html`<i key=${name} class=${`at-mark at-mark-${name}`} style=${{ "--part": at }}></i>`)}
  </div>
  <p class="quiet small">${given.map(([name, at]) => t(`review.from_${name}`, { at: number(Number(at), 2) })).join(" · ")}</p>`;
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
