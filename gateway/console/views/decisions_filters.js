/** The filters of the decision log; they stand in the page's address, so that a search can be sent to somebody. */
import { withQuery } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { link } from "../router.js";
import { t } from "../texts.js";
import { usePolled } from "./polled.js";

const NAMES = ["since", "until", "policy", "category", "decision", "outcome", "reviewed", "shadow_differs", "external_id", "image_sha256"];
const MINUTE_CHARS = 16; // of 2026-01-31T12:00, as the browser's field writes a time
const RARELY_MS = 600_000;

/** @param {URLSearchParams} query @returns {Record<string, string>} */
export function filtersOf(query) {
  return Object.fromEntries(NAMES.flatMap((name) => (query.get(name) ? [[name, String(query.get(name))]] : [])));
}

/** A time of the API as the browser's field shows it, in the reader's zone. @param {string | undefined} iso */
function localTime(iso) {
  const at = iso ? new Date(iso) : null;
  if (!at || Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, MINUTE_CHARS);
}

/** @param {{filters: Record<string, string>, names?: string[], also?: Record<string, string>}} props `also` stays in the address */
export function Filters({ filters, names = NAMES, also = {} }) {
  const { data } = usePolled("/v1/policies", RARELY_MS);
  const [draft, setDraft] = useState(filters);
  useEffect(() => setDraft(filters), [JSON.stringify(filters)]);
  const policies = data?.data ?? [];
  const categories = [...new Set(policies.flatMap((/** @type {any} */ policy) => policy.rules.map((/** @type {any} */ rule) => rule.category)))];
  const search = (/** @type {Record<string, string>} */ wanted) => {
    location.hash = withQuery(link("decisions"), { ...wanted, ...also });
  };
  const set = (/** @type {string} */ name, /** @type {string} */ value, now = true) => {
    const wanted = { ...draft, [name]: value };
    if (!value) delete wanted[name];
    setDraft(wanted);
    if (now) search(wanted);
  };
  /** @param {string} name @param {[string, string][]} options */
  const select = (name, options) => html`<label key=${name}>${t(`decisions.${name}`)}
    <select value=${draft[name] ?? ""} onChange=${(/** @type {any} */ event) => set(name, event.target.value)}>
      <option value="">${t("decisions.any")}</option>${options.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
    </select></label>`;
  /** @param {string} name @param {any} [more] */
  const field = (name, more = {}) => html`<label key=${name}>${t(`decisions.${name}`)}
    <input ...${more} value=${draft[name] ?? ""} onInput=${(/** @type {any} */ event) => set(name, event.target.value, false)} onChange=${(/** @type {any} */ event) => set(name, event.target.value.trim())} /></label>`;
  /** @param {string} name */
  const moment = (name) => html`<label key=${name}>${t(`decisions.${name}`)}
    <input type="datetime-local" value=${localTime(draft[name])} onChange=${(/** @type {any} */ event) => set(name, event.target.value && new Date(event.target.value).toISOString())} /></label>`;
  /** @type {[string, string][]} */
  const decisions = ["allow", "review", "block"].map((one) => [one, t(`decision.${one}`)]);
  /** @type {[string, string][]} */
  const yes = [["true", t("decisions.yes")], ["false", t("decisions.no")]];
  /** @type {Record<string, () => any>} */
  const parts = {
    since: () => moment("since"),
    until: () => moment("until"),
    policy: () => field("policy", { list: "filter-policies", autocomplete: "off", maxlength: 74 }),
    category: () => field("category", { list: "filter-categories", autocomplete: "off", maxlength: 256 }),
    decision: () => select("decision", decisions),
    outcome: () => select("outcome", decisions),
    reviewed: () => select("reviewed", yes),
    shadow_differs: () => select("shadow_differs", yes),
    external_id: () => field("external_id", { autocomplete: "off", maxlength: 256, type: "search" }),
    image_sha256: () => field("image_sha256", { autocomplete: "off", pattern: "[0-9A-Fa-f]{64}", maxlength: 64, type: "search", class: "mono" }),
  };
  return html`<search><form class="filters card" onSubmit=${(/** @type {Event} */ event) => {
    event.preventDefault();
    search(draft);
  }}>
    ${names.map((name) => parts[name]())}
    <div class="filters-end"><button type="button" disabled=${!Object.keys(filters).length} onClick=${() => search({})}>${t("decisions.clear")}</button></div>
    <datalist id="filter-policies">${policies.map((/** @type {any} */ policy) => html`<option key=${policy.name} value=${policy.name}></option>`)}</datalist>
    <datalist id="filter-categories">${categories.map((category) => html`<option key=${category} value=${category}></option>`)}</datalist>
  </form></search>`;
}
