/** A policy's body as a form. What is wrong stands at its field. */
import { html, useId } from "../html.js";
import { Histogram } from "../parts/histogram.js";
import { asNumber, Typed } from "../parts/typed.js";
import { t } from "../texts.js";
import { VIEWS } from "./policy_body.js";
import { usePolled } from "./polled.js";

const RARELY_MS = 600_000;
const WARNINGS = ["frames_sampled", "max_inferences_reached", "perceptual_lists_not_asked"];

/**
 * @param {{draft: any, onChange: (body: any) => void, found: Record<string, string>, spreads: any[], disabled: boolean}} props
 */
export function PolicyForm({ draft, onChange, found, spreads, disabled }) {
  const { data } = usePolled("/v1/classifiers", RARELY_MS);
  const classifiers = data?.data ?? [];
  const set = (/** @type {string} */ field, /** @type {any} */ value) => onChange({ ...draft, [field]: value });
  const rules = draft.rules ?? [];
  const setRule = (/** @type {number} */ place, /** @type {any} */ rule) => {
    // What thresholds were tuned on says nothing of those that are set by hand.
    const { tuned_on: _tuned, ...rest } = draft;
    onChange({ ...rest, rules: rules.map((/** @type {any} */ one, /** @type {number} */ at) => (at === place ? rule : one)) });
  };
  return html`<form class="stack" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <fieldset class="bare stack" disabled=${disabled}>
      ${rules.map((/** @type {any} */ rule, /** @type {number} */ place) => html`<${Rule} key=${place} rule=${rule} place=${place} classifiers=${classifiers} found=${found}
        spread=${spreads[place]?.category === rule.category ? spreads[place] : null} disabled=${disabled} onChange=${(/** @type {any} */ changed) => setRule(place, changed)}
        onRemove=${rules.length > 1 ? () => set("rules", rules.filter((/** @type {any} */ _, /** @type {number} */ at) => at !== place)) : null} />`)}
      ${found.rules && html`<p class="error-text">${found.rules}</p>`}
      <div class="row"><button type="button" onClick=${() => set("rules", [...rules, { category: "", classifier: "", labels: [], review_at: 0.5, block_at: 0.9 }])}>${t("policies.add_rule")}</button></div>
      <section class="card"><h2>${t("policies.everything")}</h2>
        <${Field} name="description" found=${found.description}>${(/** @type {any} */ more) => html`<textarea ...${more} maxlength="4000" value=${draft.description ?? ""} onInput=${(/** @type {any} */ event) => set("description", event.target.value)}></textarea>`}<//>
        <div class="fields">
          <${Field} name="views" found=${found.views} hint="views_hint">${(/** @type {any} */ more) => html`<select ...${more} value=${draft.views ?? "tiles"} onChange=${(/** @type {any} */ event) => set("views", event.target.value)}>${VIEWS.map((one) => html`<option key=${one} value=${one}>${t(`policies.view_names.${one}`)}</option>`)}</select>`}<//>
          <${Field} name="audit_share" found=${found.audit_share} hint="audit_share_hint">${(/** @type {any} */ more) => html`<${Typed} ...${more} type="number" min="0" max="1" step="any" value=${draft.audit_share ?? 0} read=${asNumber} onValue=${(/** @type {number} */ share) => set("audit_share", share)} />`}<//>
        </div>
        <fieldset class="choices"><legend>${t("policies.review_on")}</legend>${WARNINGS.map((one) => html`<label key=${one} class="check"><input type="checkbox" checked=${(draft.review_on ?? []).includes(one)}
          onChange=${() => set("review_on", (draft.review_on ?? []).includes(one) ? draft.review_on.filter((/** @type {string} */ other) => other !== one) : [...(draft.review_on ?? []), one])} />${t(`policies.warnings.${one}`)}</label>`)}</fieldset>
        ${draft.carried_from && html`<p class="small">${t("policies.carried_from", { version: draft.carried_from.version, bundle: draft.carried_from.bundle_id.slice(0, 12) })}</p>`}
        ${draft.tuned_on && html`<p class="quiet small">${t("policies.tuned_on", { images: draft.tuned_on.images, at: draft.tuned_on.at })}</p>`}
        <p class="quiet small">${t("policies.rest_in_yaml")}</p>
      </section>
    </fieldset>
  </form>`;
}

/** @param {{name: string, found?: string, hint?: string, children: (more: any) => any}} props */
export function Field({ name, found, hint, children }) {
  const id = useId();
  const told = found ? `${id}e` : hint ? `${id}h` : undefined;
  return html`<div class="field"><label for=${id}>${t(`policies.${name}`)}</label>
    ${children({ id, "aria-describedby": told, "aria-invalid": found ? "true" : undefined })}
    ${hint && !found && html`<span id=${`${id}h`} class="field-hint">${t(`policies.${hint}`)}</span>`}
    ${found && html`<span id=${`${id}e`} class="error-text small">${found}</span>`}</div>`;
}

/** @param {{rule: any, place: number, classifiers: any[], found: Record<string, string>, spread: any, disabled: boolean, onChange: (rule: any) => void, onRemove: (() => void) | null}} props */
function Rule({ rule, place, classifiers, found, spread, disabled, onChange, onRemove }) {
  const at = `rules.${place}`;
  const name = String(rule.classifier ?? "").split("@")[0];
  const classifier = classifiers.find((one) => one.name === name);
  const known = (classifier?.labels ?? []).map((/** @type {any} */ label) => (typeof label === "string" ? label : label.label));
  const labels = [...new Set([...known, ...(rule.labels ?? [])])];
  const set = (/** @type {string} */ field, /** @type {any} */ value) => onChange({ ...rule, [field]: value });
  const labelled = spread?.labelled ? spread.labelled.positives + spread.labelled.negatives : 0;
  return html`<section class="card rule" aria-label=${rule.category || t("policies.new_rule")}>
    <div class="view-head"><h2 class="wrap">${rule.category || t("policies.new_rule")}</h2><span class="row">
      ${labelled > 0 && html`<span class="quiet small">${t("policies.labelled", { positives: spread.labelled.positives, negatives: spread.labelled.negatives })}</span>`}
      ${onRemove && html`<button type="button" class="plain small" aria-label=${`${t("policies.remove_rule")}: ${rule.category}`} onClick=${onRemove}>${t("policies.remove_rule")}</button>`}</span></div>
    <${Histogram} name=${rule.category || t("policies.new_rule")} spread=${spread} reviewAt=${rule.review_at ?? null} blockAt=${rule.block_at ?? null} disabled=${disabled} onChange=${set} />
    ${[found[at], found[`${at}.review_at`], found[`${at}.block_at`]].filter(Boolean).map((one) => html`<p key=${one} role="alert" class="error-text small">${one}</p>`)}
    <details open=${!rule.category || Boolean(found[`${at}.classifier`] || found[`${at}.labels`])}><summary>${t("policies.scored_by", { classifier: rule.classifier || "–", labels: (rule.labels ?? []).length })}</summary>
      <div class="stack inner"><div class="fields">
        <${Field} name="category" found=${found[`${at}.category`]}>${(/** @type {any} */ more) => html`<input ...${more} required maxlength="64" value=${rule.category} onInput=${(/** @type {any} */ event) => set("category", event.target.value)} />`}<//>
        <${Field} name="classifier" found=${found[`${at}.classifier`]}>${(/** @type {any} */ more) => html`<input ...${more} required maxlength="74" list=${`classifiers-${place}`} autocomplete="off" value=${rule.classifier} onInput=${(/** @type {any} */ event) => set("classifier", event.target.value.trim())} /><datalist id=${`classifiers-${place}`}>${classifiers.map((one) => html`<option key=${one.name} value=${one.name}></option>`)}</datalist>`}<//>
        <${Field} name="aggregate" found=${found[`${at}.aggregate`]}>${(/** @type {any} */ more) => html`<select ...${more} value=${rule.aggregate ?? ""} onChange=${(/** @type {any} */ event) => set("aggregate", event.target.value || null)}>
          <option value="">${t("policies.by_mode")}</option><option value="sum">${t("policies.sum")}</option><option value="max">${t("policies.max")}</option></select>`}<//>
      </div>
      <fieldset class="choices"><legend>${t("policies.labels")}</legend>${labels.map((label) => html`<label key=${label} class="check"><input type="checkbox" checked=${(rule.labels ?? []).includes(label)}
        onChange=${() => set("labels", rule.labels.includes(label) ? rule.labels.filter((/** @type {string} */ one) => one !== label) : [...rule.labels, label])} />${label}</label>`)}
        ${labels.length === 0 && html`<span class="quiet small">${t("policies.choose_classifier")}</span>`}</fieldset>
      ${found[`${at}.labels`] && html`<p class="error-text small">${found[`${at}.labels`]}</p>`}</div></details>
  </section>`;
}
