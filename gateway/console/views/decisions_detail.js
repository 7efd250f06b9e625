/** One decision with everything that is known of it. */
import { api } from "../api.js";
import { html, useCallback, useEffect, useState } from "../html.js";
import { Decision } from "../parts/decision.js";
import { Loading, Notice } from "../parts/notice.js";
import { link } from "../router.js";
import { may, useSession } from "../session.js";
import { percent, t, time } from "../texts.js";
import { Actions } from "./decisions_actions.js";
import { Picture } from "./decisions_picture.js";
import { ScoreBar } from "./score_bar.js";

/** @param {{id: string, back: string}} props */
export function Detail({ id, back }) {
  const [decision, setDecision] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const load = useCallback(async () => {
    try {
      setDecision(await api.get(`/v1/decisions/${encodeURIComponent(id)}`));
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, [id]);
  useEffect(() => {
    void load();
    document.getElementById("main")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [load]);
  return html`
    <p><a href=${back}>← ${t("decisions.back")}</a></p>
    ${error && html`<h1>${t("decisions.one")}</h1><${Notice} error=${error} onRetry=${load} />`}
    ${!decision && !error && html`<h1>${t("decisions.one")}</h1><${Loading} />`}
    ${decision && html`
      <div class="view-head">
        <div class="stack tight"><h1 class="row">${decision.external_id ?? t("decisions.one")}<${Decision} decision=${decision.outcome} /></h1>
          <p class="quiet">${time(decision.at)} · <span class="mono">${decision.id}</span></p></div>
        <${Actions} decision=${decision} onDone=${load} />
      </div>
      <div class="split">
        <div class="stack"><${Categories} decision=${decision} /><${Shadow} shadow=${decision.shadow} differs=${decision.shadow_differs} /><${Similar} id=${id} /></div>
        <div class="stack"><${Picture} decision=${decision} /><${Facts} decision=${decision} /><${History} rows=${decision.feedback ?? []} /><${Attributes} attributes=${decision.attributes} /><${Raw} value=${decision} /></div>
      </div>`}
  `;
}

/** @param {{decision: any}} props */
function Categories({ decision }) {
  return html`<section class="card"><h2>${t("decisions.evidence")}</h2>
    ${decision.warnings.length > 0 && html`<ul class="warnings">${decision.warnings.map((/** @type {string} */ one) => html`<li key=${one}>${one}</li>`)}</ul>`}
    ${decision.categories.length === 0 && html`<p class="quiet">${t("decisions.no_scores")}</p>`}
    ${decision.categories.map((/** @type {any} */ category) => html`<div key=${category.category} class="category">
      <${ScoreBar} name=${category.category} score=${category.score} reviewAt=${category.review_at} blockAt=${category.block_at} decision=${category.decision} />
      ${category.evidence?.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense"><thead><tr><th scope="col">${t("decisions.label")}</th><th scope="col">${t("decisions.where")}</th><th scope="col" class="number">${t("decisions.score")}</th></tr></thead>
        <tbody>${category.evidence.map((/** @type {any} */ one, /** @type {number} */ place) => html`<tr key=${place}><td>${one.label}${one.kind !== "label" && html` <span class="badge">${one.kind}</span>`}</td>
          <td class="quiet">${one.view}${one.frame_ms === null || one.frame_ms === undefined ? "" : ` · ${one.frame_ms} ms`}${one.box ? ` · ${one.box.join(", ")}` : ""}</td>
          <td class="number">${percent(one.score)}</td></tr>`)}</tbody></table></div>`}
    </div>`)}
  </section>`;
}

/** @param {{decision: any}} props */
function Facts({ decision }) {
  const { policy, image, reviewed } = decision;
  /** @type {[string, any, string?][]} */
  const facts = [
    ["policy", html`<a href=${`${link("policies", policy.name)}?version=${policy.version}`}>${policy.name}@${policy.version}</a>`],
    ["decision", html`<${Decision} decision=${decision.decision} />`],
    ["outcome", html`<${Decision} decision=${decision.outcome} />`],
    ["reviewer", reviewed && `${reviewed.reviewer ?? reviewed.key ?? t("decisions.somebody")}, ${time(reviewed.at)}`],
    ["external_id", decision.external_id],
    ["classifiers", Object.entries(policy.classifiers ?? {}).map(([name, version]) => `${name}@${version}`).join(", ")],
    ["key", decision.key],
    ["image_sha256", image.sha256, "mono"],
    ["pdq", image.pdq, "mono"],
    ["bundle", decision.bundle_id, "mono"],
    ["request", decision.request_id, "mono"],
    ["audit_share", decision.audit_share ? percent(decision.audit_share) : null],
  ];
  return html`<section class="card"><h2>${t("decisions.facts")}</h2>
    <dl class="facts">${facts.filter(([, value]) => value).map(([name, value, kind]) => html`<div key=${name}><dt>${t(`decisions.${name}`)}</dt><dd class=${kind}>${value}</dd></div>`)}</dl>
  </section>`;
}

/** @param {{rows: any[]}} props */
function History({ rows }) {
  return html`<section class="card"><h2>${t("decisions.history")}</h2>
    ${rows.length === 0 && html`<p class="quiet">${t("decisions.no_verdicts")}</p>`}
    <ol class="history">${rows.map((row, place) => html`<li key=${place}>
      <div class="row">${row.decision ? html`<${Decision} decision=${row.decision} />` : html`<span class="badge">${row.kind}</span>`}
        ${row.kind && row.kind !== "verdict" && row.decision && html`<span class="badge">${row.kind}</span>`}
        <strong>${row.reviewer ?? row.key ?? t("decisions.somebody")}</strong><span class="quiet small">${time(row.at)}</span></div>
      ${row.categories?.length > 0 && html`<p class="small">${row.categories.join(", ")}</p>`}
      ${row.reason && html`<p class="small">${row.reason}</p>`}
      ${row.note && html`<blockquote>${row.note}</blockquote>`}
      ${row.list && html`<p class="small quiet">${t("decisions.on_list", { list: row.list })}</p>`}
    </li>`)}</ol>
  </section>`;
}

/** @param {{shadow: any, differs: boolean | null}} props */
function Shadow({ shadow, differs }) {
  if (!shadow) return null;
  return html`<section class="card"><div class="view-head"><h2>${t("decisions.shadow")}</h2>
      <span class="row"><${Decision} decision=${shadow.decision} />${differs && html`<span class="badge badge-review">${t("decisions.differs")}</span>`}</span></div>
    ${shadow.policy && html`<p class="quiet">${shadow.policy.name}@${shadow.policy.version}</p>`}
    ${shadow.error && html`<p class="error-text">${shadow.error.detail ?? shadow.error}</p>`}
    ${(shadow.categories ?? []).map((/** @type {any} */ one) => html`<${ScoreBar} key=${one.category} name=${one.category} score=${one.score} reviewAt=${one.review_at} blockAt=${one.block_at} decision=${one.decision} />`)}
  </section>`;
}

/** @param {{attributes: Record<string, any>}} props */
function Attributes({ attributes }) {
  const names = Object.keys(attributes ?? {});
  if (!names.length) return null;
  return html`<section class="card"><h2>${t("decisions.attributes")}</h2>${names.map((name) => html`<details key=${name}><summary>${name}</summary><pre>${JSON.stringify(attributes[name], null, 2)}</pre></details>`)}</section>`;
}

/** @param {{value: any}} props */
function Raw({ value }) {
  return html`<details class="card"><summary>${t("decisions.raw")}</summary><pre tabindex="0">${JSON.stringify(value, null, 2)}</pre></details>`;
}

/** @param {{id: string}} props */
function Similar({ id }) {
  const { session } = useSession();
  const [found, setFound] = useState(/** @type {any} */ (null));
  const wanted = session.features.vectors && may(session, "read", "review");
  useEffect(() => {
    if (wanted) api.get(`/v1/decisions/${encodeURIComponent(id)}/similar?limit=8`).then(setFound, () => setFound({ data: [] }));
  }, [id]);
  if (!wanted || !found) return null;
  return html`<section class="card"><h2>${t("decisions.similar")}</h2>
    ${found.data.length === 0 && html`<p class="quiet">${found.hint ?? t("decisions.no_similar")}</p>`}
    ${found.data.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense"><thead><tr><th scope="col">${t("decisions.at")}</th><th scope="col">${t("decisions.outcome")}</th><th scope="col">${t("decisions.external_id")}</th><th scope="col" class="number">${t("decisions.similarity")}</th></tr></thead>
      <tbody>${found.data.map((/** @type {any} */ one) => html`<tr key=${one.decision.id}><td class="nowrap"><a href=${link("decisions", one.decision.id)}>${time(one.decision.at)}</a></td><td><${Decision} decision=${one.decision.outcome} /></td>
        <td class="wrap">${one.decision.external_id ?? "–"}</td><td class="number">${percent(one.similarity)}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}
