/** One evaluation: how far it is, its figures, its report, and taking its thresholds over. */
import { api } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { Loading, Notice } from "../parts/notice.js";
import { toast } from "../parts/toast.js";
import { link } from "../router.js";
import { may, useSession } from "../session.js";
import { number, percent, t, time } from "../texts.js";
import { usePolled } from "./polled.js";
import { JobState, Progress } from "./status_activity.js";

const OFTEN_MS = 1000;
const NEVER_MS = 2 ** 31 - 1;

/** @param {{id: string}} props */
export function JobPage({ id }) {
  const { session } = useSession();
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  const [over, setOver] = useState(false);
  const { data: job, error, again } = usePolled(path, over ? NEVER_MS : OFTEN_MS);
  const runs = job && (job.state === "queued" || job.state === "running");
  useEffect(() => setOver(Boolean(job) && !runs), [job?.state]);
  const cancel = async () => {
    try {
      await api.del(path);
    } catch (failure) {
      toast(/** @type {any} */ (failure).detail, "error");
    }
    again();
  };
  const title = job ? `${job.request?.policy ?? job.kind} · ${job.request?.source?.set ?? t("evaluate.reviewed")}` : t("evaluate.job");
  return html`<div class="view-head"><div class="stack tight"><p><a href=${link("evaluate")}>← ${t("nav.evaluate")}</a></p><h1 class="row wrap">${title}${job && html`<${JobState} state=${job.state} />`}</h1>
      ${job && html`<p class="quiet">${t("evaluate.begun", { who: job.created_by ?? t("decisions.somebody"), at: time(job.created_at) })}</p>`}</div>
      ${runs && may(session, "manage") && html`<button type="button" onClick=${cancel}>${t("evaluate.cancel")}</button>`}</div>
    ${error && html`<${Notice} error=${error} onRetry=${again} />`}
    ${!job && !error && html`<${Loading} />`}
    ${runs && html`<section class="card" role="status"><${Progress} progress=${job.progress} label=${t("status.progress")} /></section>`}
    ${job?.error && html`<section class="card" role="alert"><h2>${t("evaluate.failed")}</h2><p class="error-text">${job.error.detail ?? job.error.title ?? job.error.code}</p></section>`}
    ${job?.result && html`<${Result} job=${job} />`}`;
}

/** @param {{job: any}} props */
function Result({ job }) {
  const { session } = useSession();
  const { result } = job;
  const [before, setBefore] = useState(/** @type {any} */ (null));
  const other = job.request?.compare_with;
  useEffect(() => {
    if (other) api.get(`/v1/jobs/${encodeURIComponent(other)}`).then(setBefore, () => {});
  }, [other]);
  const use = async () => {
    const [name] = String(job.request.policy).split("@");
    try {
      const { name: _name, version: _version, active: _active, created_at: _at, bundle_id: _bundle, classifiers: _pins, ...draft } = result.draft;
      const saved = await api.put(`/v1/policies/${encodeURIComponent(name)}?activate=false`, draft);
      toast(t("policies.saved_draft", { version: saved.version }));
      location.hash = `${link("policies", name)}?version=${saved.version}`;
    } catch (failure) {
      toast(/** @type {any} */ (failure).detail, "error");
    }
  };
  const report = job.files.find((/** @type {any} */ file) => file.name === "report.html");
  const fileAt = (/** @type {string} */ name) => `/v1/jobs/${encodeURIComponent(job.id)}/files/${encodeURIComponent(name)}`;
  return html`
    <dl class="tiles"><div><dt>${t("evaluate.pictures_head")}</dt><dd>${number(result.pictures)}</dd></div><div><dt>${t("evaluate.failed_head")}</dt><dd>${number(result.failed)}</dd></div>
      ${result.decisions && html`<div><dt>${t("evaluate.right")}</dt><dd>${percent(result.decisions.right / Math.max(1, result.decisions.of))}</dd></div>`}</dl>
    <section class="card"><div class="view-head"><h2>${t("evaluate.figures")}</h2>
      ${result.draft && may(session, "manage") && html`<button type="button" class="primary" onClick=${use}>${t("evaluate.use")}</button>`}</div>
      <${Figures} categories=${result.categories ?? []} before=${before?.result?.categories ?? null} />
      ${result.promises?.length > 0 && html`<h3>${t("evaluate.promises")}</h3><ul>${result.promises.map((/** @type {string} */ one) => html`<li key=${one}>${one}</li>`)}</ul>`}
      ${result.missing?.length > 0 && html`<h3>${t("evaluate.missing")}</h3><ul class="warnings">${result.missing.map((/** @type {any} */ one) => html`<li key=${String(one)}>${typeof one === "string" ? one : JSON.stringify(one)}</li>`)}</ul>`}</section>
    ${report && html`<section class="card"><div class="view-head"><h2>${t("evaluate.report")}</h2><a class="button" href=${fileAt("report.html")} target="_blank" rel="noopener">${t("evaluate.open")}</a></div>
      <iframe class="report" sandbox="" title=${t("evaluate.report")} src=${fileAt("report.html")}></iframe></section>`}
    ${job.files.length > 0 && html`<section class="card"><h2>${t("evaluate.files")}</h2><ul class="plain-list">${job.files.map((/** @type {any} */ file) => html`<li key=${file.name}><a href=${fileAt(file.name)} download=${file.name}>${file.name}</a> <span class="quiet small">${number(Math.ceil(file.bytes / 1000))} kB</span></li>`)}</ul></section>`}`;
}

/** A value with its interval. @param {any} figure */
const shown = (figure) => (figure?.value === null || figure?.value === undefined ? "–" : `${number(figure.value, 3)}${figure.low === null || figure.low === undefined ? "" : ` (${number(figure.low, 2)}–${number(figure.high, 2)})`}`);

/** @param {{categories: any[], before: any[] | null}} props */
function Figures({ categories, before }) {
  const rates = [...new Set(categories.flatMap((one) => Object.keys(one.recall_at_fpr ?? {})))];
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("evaluate.figures")}><table class="dense"><thead><tr><th scope="col">${t("decisions.category")}</th><th scope="col" class="number">${t("evaluate.positives")}</th><th scope="col" class="number">ROC AUC</th><th scope="col" class="number">${t("evaluate.precision")}</th>
    ${rates.map((rate) => html`<th key=${rate} scope="col" class="number">${t("evaluate.recall_at", { rate: percent(Number(rate)) })}</th>`)}${before && html`<th scope="col" class="number">${t("evaluate.change")}</th>`}</tr></thead>
    <tbody>${categories.map((one) => {
      const old = before?.find((other) => other.category === one.category);
      const change = old?.roc_auc?.value !== undefined && one.roc_auc?.value !== undefined && old.roc_auc.value !== null && one.roc_auc.value !== null ? one.roc_auc.value - old.roc_auc.value : null;
      return html`<tr key=${one.category}><th scope="row" class="wrap">${one.category}</th><td class="number">${number(one.positives ?? 0)} / ${number(one.pictures ?? 0)}</td><td class="number">${shown(one.roc_auc)}</td><td class="number">${shown(one.average_precision)}</td>
        ${rates.map((rate) => html`<td key=${rate} class="number">${shown(one.recall_at_fpr?.[rate])}</td>`)}${before && html`<td class="number">${change === null ? "–" : `${change >= 0 ? "+" : "−"}${number(Math.abs(change), 3)}`}</td>`}</tr>`;
    })}</tbody></table></div>`;
}
