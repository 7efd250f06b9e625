/** Labelled sets, evaluation jobs over them, and what they found. */
import { api } from "../api.js";
import { html, useState } from "../html.js";
import { Notice } from "../parts/notice.js";
import { go, link } from "../router.js";
import { may, useSession } from "../session.js";
import { ago, t } from "../texts.js";
import { JobPage } from "./evaluate_job.js";
import { Sets } from "./evaluate_sets.js";
import { usePolled } from "./polled.js";
import { JobState, Progress } from "./status_activity.js";

const EVERY_MS = 4000;
const RARELY_MS = 60_000;

/** @param {{route: import("../router.js").Route}} props */
export default function Evaluate({ route }) {
  const { session } = useSession();
  const [id] = route.rest;
  if (!session.features.jobs) return html`<h1>${t("nav.evaluate")}</h1><${Notice} text=${t("evaluate.off")} />`;
  return id ? html`<${JobPage} key=${id} id=${id} />` : html`<${Overview} />`;
}

function Overview() {
  const { session } = useSession();
  const jobs = usePolled("/v1/jobs?kind=evaluate", EVERY_MS);
  const sets = usePolled("/v1/labelled-sets", RARELY_MS);
  const change = may(session, "manage");
  return html`<div class="view-head"><h1>${t("nav.evaluate")}</h1></div>
    <p class="quiet lead">${t("evaluate.about")}</p>
    <div class="split"><div class="stack">
      <section class="card"><h2>${t("evaluate.jobs")}</h2>
        ${jobs.error && html`<p class="error-text">${jobs.error.detail}</p>`}
        ${jobs.data && jobs.data.data.length === 0 && html`<p class="quiet">${t("evaluate.no_jobs")}</p>`}
        ${jobs.data?.data.length > 0 && html`<div class="scroll"><table class="dense"><thead><tr><th scope="col">${t("evaluate.policy")}</th><th scope="col">${t("evaluate.source")}</th><th scope="col">${t("status.state")}</th><th scope="col">${t("status.progress")}</th><th scope="col">${t("status.at")}</th></tr></thead>
          <tbody>${jobs.data.data.map((/** @type {any} */ job) => html`<tr key=${job.id}><th scope="row"><a href=${link("evaluate", job.id)}>${job.request?.policy ?? job.id.slice(0, 8)}</a></th><td class="wrap">${job.request?.source?.set ?? t("evaluate.reviewed")}</td>
            <td><${JobState} state=${job.state} /></td><td>${job.state === "running" || job.state === "queued" ? html`<${Progress} progress=${job.progress} label=${t("status.progress")} />` : job.error ? html`<span class="error-text wrap">${job.error.detail ?? job.error.code}</span>` : t("evaluate.pictures", { count: job.result?.pictures ?? 0 })}</td>
            <td class="nowrap">${ago(job.created_at)}</td></tr>`)}</tbody></table></div>`}
      </section>
      <${Sets} sets=${sets} /></div>
      ${change && html`<${Start} sets=${sets.data?.data ?? []} jobs=${(jobs.data?.data ?? []).filter((/** @type {any} */ job) => job.state === "done")} />`}
    </div>`;
}

/** @param {{sets: any[], jobs: any[]}} props */
function Start({ sets, jobs }) {
  const policies = usePolled("/v1/policies", RARELY_MS);
  const [form, setForm] = useState(/** @type {Record<string, any>} */ ({ policy: "default", set: "", fpr: "0.01", share: "", catch: "0.9", confidence: "0.95", calibrate: false, compare: "" }));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => setForm((before) => ({ ...before, [name]: event.target.type === "checkbox" ? event.target.checked : event.target.value }));
  const part = (/** @type {string} */ text) => (text === "" ? null : Number(text));
  const start = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const job = await api.post("/v1/jobs", {
        kind: "evaluate", policy: form.policy, source: form.set ? { set: form.set } : { reviewed: {} },
        goals: { block_fpr: part(form.fpr), review_share: part(form.share), catch: part(form.catch), confidence: Number(form.confidence) },
        calibrate: form.calibrate, compare_with: form.compare || null,
      });
      go("evaluate", job.id);
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  /** @param {string} name @param {string} [hint] */
  const share = (name, hint) => html`<label>${t(`evaluate.${name}`)}<input type="number" min="0" max="1" step="any" value=${form[name]} onInput=${set(name)} />${hint && html`<span class="field-hint">${t(`evaluate.${hint}`)}</span>`}</label>`;
  return html`<form class="card" aria-labelledby="start" onSubmit=${start}><h2 id="start">${t("evaluate.start")}</h2>
    <label>${t("evaluate.policy")}<input required maxlength="74" list="evaluate-policies" autocomplete="off" value=${form.policy} onInput=${set("policy")} /><datalist id="evaluate-policies">${(policies.data?.data ?? []).map((/** @type {any} */ one) => html`<option key=${one.name} value=${one.name}></option>`)}</datalist></label>
    <label>${t("evaluate.source")}<select value=${form.set} onChange=${set("set")}><option value="">${t("evaluate.reviewed_all")}</option>${sets.map((one) => html`<option key=${one.name} value=${one.name}>${one.name} (${one.images})</option>`)}</select></label>
    <fieldset class="bare fields"><legend>${t("evaluate.goals")}</legend>
      ${share("fpr", "fpr_hint")}${share("catch", "catch_hint")}${share("share", "share_hint")}${share("confidence")}</fieldset>
    <label class="check"><input type="checkbox" checked=${form.calibrate} onChange=${set("calibrate")} />${t("evaluate.calibrate")}</label>
    ${jobs.length > 0 && html`<label>${t("evaluate.compare")}<select value=${form.compare} onChange=${set("compare")}><option value="">${t("policies.none")}</option>${jobs.map((job) => html`<option key=${job.id} value=${job.id}>${job.request?.policy} · ${ago(job.created_at)}</option>`)}</select></label>`}
    ${error && html`<p role="alert" class="error-text">${error.detail}</p>`}
    <div class="row"><button type="submit" class="primary" disabled=${busy}>${t("evaluate.start")}</button></div></form>`;
}
