/** What runs beside requests: jobs, and deliveries of webhooks. */
import { api } from "../api.js";
import { html, useState } from "../html.js";
import { toast } from "../parts/toast.js";
import { link } from "../router.js";
import { may, useSession } from "../session.js";
import { ago, t } from "../texts.js";
import { usePolled } from "./polled.js";

const EVERY_MS = 5000;

/** A job's state as a badge. @param {{state: string}} props */
export function JobState({ state }) {
  const kinds = /** @type {Record<string, string>} */ ({ done: "allow", failed: "block", running: "review" });
  return html`<span class=${`badge badge-${kinds[state] ?? "none"}`}>${t(`status.job_states.${state}`)}</span>`;
}

/** How far a job is. @param {{progress: any, label: string}} props */
export function Progress({ progress, label }) {
  const { done = 0, total = 0, step = "" } = progress ?? {};
  return html`<span class="progress"><progress aria-label=${label} max=${total || 1} value=${done}></progress>
    <span class="quiet small">${total ? `${done} / ${total}` : ""} ${step}</span></span>`;
}

export function Jobs() {
  const { data, error } = usePolled("/v1/jobs?limit=10", EVERY_MS);
  const jobs = data?.data ?? [];
  return html`<section class="card"><h2>${t("status.jobs")}</h2>
    ${error && html`<p class="error-text">${error.detail}</p>`}
    ${data && jobs.length === 0 && html`<p class="quiet">${t("status.no_jobs")}</p>`}
    ${jobs.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense">
      <thead><tr><th scope="col">${t("status.job")}</th><th scope="col">${t("status.state")}</th><th scope="col">${t("status.progress")}</th><th scope="col">${t("status.who")}</th><th scope="col">${t("status.at")}</th></tr></thead>
      <tbody>${jobs.map((/** @type {any} */ job) => html`<tr key=${job.id}>
        <th scope="row"><a href=${link("evaluate", job.id)}>${job.kind} ${job.request?.policy ?? ""}</a></th><td><${JobState} state=${job.state} /></td>
        <td>${job.error ? html`<span class="error-text">${job.error.detail ?? job.error.code}</span>` : html`<${Progress} progress=${job.progress} label=${t("status.progress")} />`}</td>
        <td>${job.created_by ?? "–"}</td><td>${ago(job.created_at)}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}

export function Deliveries() {
  const { session } = useSession();
  const [state, setState] = useState("dead");
  const { data, error, again } = usePolled(`/v1/webhooks/deliveries?state=${state}&limit=20`, EVERY_MS);
  const rows = data?.data ?? [];
  const counts = data?.counts ?? {};
  const retry = async (/** @type {string} */ id) => {
    try {
      await api.post(`/v1/webhooks/deliveries/${encodeURIComponent(id)}/retry`, undefined);
      toast(t("status.retried"));
    } catch (failure) {
      toast(/** @type {any} */ (failure).detail, "error");
    }
    again();
  };
  return html`<section class="card"><div class="view-head"><h2>${t("status.webhooks")}</h2>
    <div class="segments" role="group" aria-label=${t("status.state")}>${["dead", "waiting", "delivered"].map(
      (one) => html`<button key=${one} type="button" aria-pressed=${state === one} onClick=${() => setState(one)}>${t(`status.delivery.${one}`)} ${counts[one] ?? ""}</button>`,
    )}</div></div>
    ${error && html`<p class="error-text">${error.detail}</p>`}
    ${data && rows.length === 0 && html`<p class="quiet">${t("status.no_deliveries")}</p>`}
    ${rows.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense">
      <thead><tr><th scope="col">${t("status.event")}</th><th scope="col">${t("status.decision")}</th><th scope="col" class="number">${t("status.attempts")}</th><th scope="col">${t("status.last_error")}</th><th scope="col">${t("status.at")}</th><th scope="col">${t("status.next")}</th><th scope="col"><span class="hidden">${t("status.retry")}</span></th></tr></thead>
      <tbody>${rows.map((/** @type {any} */ row) => html`<tr key=${row.id}><td>${row.event}</td><td><a class="mono" href=${link("decisions", row.decision_id)}>${String(row.decision_id).slice(0, 8)}</a></td>
        <td class="number">${row.attempts}</td><td>${row.last_error ?? "–"}</td><td class="nowrap">${ago(row.created_at)}</td><td class="nowrap">${row.next_at ? ago(row.next_at) : "–"}</td>
        <td>${row.state !== "delivered" && may(session, "manage") && html`<button type="button" class="plain" onClick=${() => retry(row.id)}>${t("status.retry")}</button>`}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}
