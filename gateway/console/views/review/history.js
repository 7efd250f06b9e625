/** What was said of a case before, and how pictures like it ended. */
import { api } from "../../api.js";
import { html, useEffect, useState } from "../../html.js";
import { Decision } from "../../parts/decision.js";
import { link } from "../../router.js";
import { ago, percent, t, time } from "../../texts.js";

/** @param {{item: any}} props */
export function History({ item }) {
  /** @type {any[]} */
  const said = item.decision.feedback ?? [];
  return html`<section class="card" aria-labelledby="review-history">
    <h3 id="review-history">${t("review.history")}</h3>
    ${said.length === 0 && html`<p class="quiet">${t("review.no_history")}</p>`}
    <ol class="said-list">
      ${said.map((one, index) => html`<li key=${index} class=${`said-list-${one.kind ?? "verdict"}`}>
        <span class="row"><strong>${t(`review.kind.${one.kind ?? "verdict"}`)}</strong>
          ${one.decision && html`<${Decision} decision=${one.decision} />`}
          <span class="quiet">${one.reviewer ?? one.key ?? t("review.somebody")}, <time datetime=${one.at} title=${time(one.at)}>${ago(one.at)}</time></span></span>
        ${one.reason && html`<p class="wrap">${one.reason}</p>`}
        ${one.categories?.length > 0 && html`<p class="mono">${one.categories.join(", ")}</p>`}
        ${one.note && html`<p class="wrap said">${one.note}</p>`}
      </li>`)}
    </ol>
  </section>`;
}

/** @param {{item: any}} props */
export function Similar({ item }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  useEffect(() => {
    const stop = new AbortController();
    setFound(null);
    api.get(`/v1/decisions/${encodeURIComponent(item.id)}/similar?limit=6`, { signal: stop.signal }).then(setFound, () => {
      if (!stop.signal.aborted) setFound({ data: [] });
    });
    return () => stop.abort();
  }, [item.id]);
  /** @type {any[]} */
  const rows = found?.data ?? [];
  return html`<section class="card" aria-labelledby="review-similar">
    <h3 id="review-similar">${t("review.similar")}</h3>
    ${found && rows.length === 0 && html`<p class="quiet">${found.hint ?? t("review.no_similar")}</p>`}
    ${!found && html`<p class="quiet">${t("app.loading")}</p>`}
    <ul class="similar">
      ${rows.map(({ similarity, decision }) => html`<li key=${decision.id}>
        <span class="number">${percent(similarity)}</span><${Decision} decision=${decision.outcome} />
        <a class="cut" href=${link("decisions", decision.id)} title=${decision.external_id ?? decision.id}>${decision.external_id ?? decision.id}</a>
        <span class="quiet">${decision.reviewed ? t("review.by_person") : t("review.by_policy")}</span></li>`)}
    </ul>
  </section>`;
}
