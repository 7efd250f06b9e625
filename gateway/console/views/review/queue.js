/** The queue in one line: order, filters, counts, what this session did, settings. */
import { html, useId } from "../../html.js";
import { ago, number, t } from "../../texts.js";

const ORDERS = ["oldest", "riskiest", "uncertain"];
const REASONS = ["policy", "audit", "appeal", "second_opinion"];

/**
 * @param {{
 *   filters: import("./work.js").Filters, counts: any, held: any[], session: {cases: number, minutes: number},
 *   onFilters: (filters: import("./work.js").Filters) => void, onSettings: () => void, onPause: () => void,
 * }} props
 */
export function Queue({ filters, counts, held, session, onFilters, onSettings, onPause }) {
  const id = useId();
  /** @param {Partial<import("./work.js").Filters>} change */
  const set = (change) => onFilters({ ...filters, ...change });
  const active = ["policy", "category", "key", "reason"].filter((name) => /** @type {any} */ (filters)[name]).length;
  return html`<section class="queue" aria-label=${t("review.queue")}>
    <h1>${t("nav.review")}</h1>
    <label class="hidden" for=${`${id}order`}>${t("review.order")}</label>
      <select id=${`${id}order`} value=${filters.order} onChange=${(/** @type {any} */ event) => set({ order: event.target.value })}>
        ${ORDERS.map((name) => html`<option key=${name} value=${name}>${t(`review.orders.${name}`)}</option>`)}
      </select>
    <details class="queue-filters"><summary>${active ? t("review.filters_on", { count: active }) : t("review.filters")}</summary>
      <form class="card" onSubmit=${(/** @type {any} */ event) => {
        event.preventDefault();
        const given = new FormData(event.target);
        set(Object.fromEntries(["policy", "category", "key", "reason"].map((name) => [name, String(given.get(name) ?? "").trim()])));
        event.target.closest("details").open = false;
      }}>
        ${["policy", "category", "key"].map((name) => html`<label key=${name}>${t(`review.filter.${name}`)}
          <input name=${name} maxlength="256" autocomplete="off" defaultValue=${/** @type {any} */ (filters)[name]} /></label>`)}
        <label>${t("review.filter.reason")}<select name="reason" defaultValue=${filters.reason}>
          <option value="">${t("review.any")}</option>
          ${REASONS.map((name) => html`<option key=${name} value=${name} selected=${filters.reason === name}>${t(`review.why.${name}`)}</option>`)}</select></label>
        <p class="quiet small">${t("review.filters_hint")}</p>
        <div class="row"><button class="primary">${t("review.apply")}</button>
          <button type="button" onClick=${(/** @type {any} */ event) => {
            event.target.closest("form").reset();
            set({ policy: "", category: "", key: "", reason: "" });
            event.target.closest("details").open = false;
          }}>${t("review.clear")}</button></div>
      </form>
    </details>
    <p class="counts">${counts && html`<span><b class="number">${number(counts.waiting)}</b> ${t("review.count.waiting")}</span>
      <span><b class="number">${number(counts.claimed)}</b> ${t("review.count.claimed")}</span>
      ${counts.appeals > 0 && html`<span><b class="number">${number(counts.appeals)}</b> ${t("review.count.appeals")}</span>`}
      ${counts.oldest_at && html`<span class="quiet">${t("review.count.oldest", { ago: ago(counts.oldest_at) })}</span>`}`}</p>
    <p class="quiet session">${t("review.session", { held: held.length, cases: number(session.cases), minutes: number(session.minutes) })}</p>
    <span class="row"><button type="button" onClick=${onPause}>${t("review.pause")}</button>
      <button type="button" onClick=${onSettings}>${t("review.settings.title")}</button></span>
  </section>`;
}
