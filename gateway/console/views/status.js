/** What runs, how fast, and what is degraded; refreshed while it is shown. */
import { html } from "../html.js";
import { Loading, Notice } from "../parts/notice.js";
import { may, useSession } from "../session.js";
import { ago, number, t, time } from "../texts.js";
import { usePolled } from "./polled.js";
import { Audit, Keys, Sessions } from "./status_access.js";
import { Deliveries, Jobs } from "./status_activity.js";

const EVERY_MS = 5000;

export default function Status() {
  const { session } = useSession();
  const { data, error, at, again } = usePolled("/v1/status", EVERY_MS);
  return html`
    <div class="view-head">
      <h1>${t("nav.status")}</h1>
      ${at && html`<p class="quiet small">${t("status.refreshed", { at: time(at.toISOString()) })}</p>`}
    </div>
    ${error && html`<${Notice} error=${error} onRetry=${again} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && html`<${Health} status=${data} /><${Figures} status=${data} /><${Parts} status=${data} />`}
    ${session.features.jobs && may(session, "read", "manage") && html`<${Jobs} />`}
    ${session.features.webhooks && may(session, "read", "manage") && html`<${Deliveries} />`}
    ${may(session, "manage") && html`<div class="columns"><${Keys} /><${Sessions} /></div>`}
    ${may(session, "read", "manage") && html`<${Audit} />`}
  `;
}

/** What is wrong, and what to do; the API names failing checks, and tells what is degraded in words. @param {{status: any}} props */
function Health({ status }) {
  const { ready, failing, degraded } = status;
  const calm = ready && !degraded.length;
  const kind = !ready ? "block" : calm ? "allow" : "review";
  return html`<section class=${`health health-${kind}`} aria-labelledby="health">
    <h2 id="health"><span class="lamp" aria-hidden="true">${calm ? "✓" : "!"}</span>
      ${t(!ready ? "status.unready" : calm ? "status.ready" : "status.degraded")}</h2>
    ${failing.map((/** @type {string} */ check) => html`<p key=${check}>${t(`status.failing.${check}`)}</p>`)}
    ${degraded.map((/** @type {string} */ reason) => html`<p key=${reason}>${reason}</p>`)}
  </section>`;
}

/** @param {{status: any}} props */
function Figures({ status }) {
  const { throughput, reviews, webhooks, jobs } = status;
  // Null: the store does not answer, so that nobody knows.
  const known = (/** @type {number | undefined} */ count) => (count === undefined ? "–" : number(count));
  /** @type {[string, string, string?][]} */
  const figures = [
    [t("status.requests"), number(throughput.requests_per_s, 1), t("status.per_second")],
    [t("status.images"), number(throughput.images_per_s, 1), t("status.per_second")],
    [t("status.in_flight"), number(status.in_flight.requests)],
    [t("status.waiting"), known(reviews?.waiting), reviews ? reviews.oldest_at && t("status.oldest", { at: ago(reviews.oldest_at) }) : t("status.unknown")],
    [t("status.jobs_running"), known(jobs?.running), jobs ? t("status.jobs_queued", { count: jobs.queued }) : t("status.unknown")],
    [t("status.dead"), known(webhooks?.dead), webhooks ? t("status.undelivered", { count: webhooks.waiting }) : t("status.unknown")],
  ];
  return html`<dl class="tiles">${figures.map(
    ([name, value, hint]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd>${hint && html`<dd class="quiet small">${hint}</dd>`}</div>`,
  )}</dl>`;
}

/** @param {{status: any}} props */
function Parts({ status }) {
  return html`<div class="columns">
    <${Stages} stages=${status.stages.filter((/** @type {any} */ stage) => stage.count > 0)} />
    <${Model} model=${status.model} version=${status.version} replica=${status.replica} />
    <div class="stack wide-stack"><${Errors} errors=${status.errors} /><${Lists} lists=${status.lists} /></div>
  </div><${Tritons} tritons=${status.tritons} /><${Replicas} replicas=${status.replicas} />`;
}

/** @param {{stages: any[]}} props */
function Stages({ stages }) {
  const most = Math.max(1, ...stages.map((stage) => stage.p95_ms));
  return html`<section class="card"><h2>${t("status.latency")}</h2>
    ${stages.length === 0 && html`<p class="quiet">${t("status.no_requests")}</p>`}
    ${stages.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense">
      <thead><tr><th scope="col">${t("status.stage")}</th><th scope="col" class="hide-narrow"><span class="hidden">${t("status.latency")}</span></th>
        <th scope="col" class="number">p50</th><th scope="col" class="number">p95</th><th scope="col" class="number">${t("status.count")}</th></tr></thead>
      <tbody>${stages.map((stage) => html`<tr key=${stage.stage}><th scope="row">${stage.stage}</th>
        <td class="hide-narrow"><span class="range" aria-hidden="true" style=${{ "--from": stage.p50_ms / most, "--to": stage.p95_ms / most }}></span></td>
        <td class="number">${number(stage.p50_ms, 1)} ms</td><td class="number">${number(stage.p95_ms, 1)} ms</td>
        <td class="number">${number(stage.count)}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}

/** @param {{model: any, version: string, replica: string}} props */
function Model({ model, version, replica }) {
  /** @type {[string, any][]} */
  const facts = [
    [t("status.gateway"), version],
    [t("status.replica"), replica],
    [t("status.model"), model.id],
    [t("status.revision"), model.revision],
    [t("status.bundle"), model.bundle_id],
    [t("status.device"), [model.device, model.precision].filter(Boolean).join(", ")],
    [t("status.input"), model.image_size && `${model.image_size} px → ${model.embedding_dim}`],
  ];
  return html`<section class="card"><h2>${t("status.model")}</h2>
    <dl class="facts">${facts.filter(([, value]) => value).map(
      ([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="mono">${value}</dd></div>`,
    )}</dl>
    ${model.demo && html`<p class="quiet small">${t("app.demo")}</p>`}
  </section>`;
}

/** @param {{errors: any[]}} props */
function Errors({ errors }) {
  return html`<section class="card"><h2>${t("status.errors")}</h2>
    ${errors.length === 0 && html`<p class="quiet">${t("status.no_errors")}</p>`}
    ${errors.length > 0 && html`<table class="dense"><thead><tr><th scope="col">${t("status.code")}</th><th scope="col" class="number">${t("status.count")}</th></tr></thead>
      <tbody>${errors.map((error) => html`<tr key=${error.code}><td class="mono">${error.code}</td><td class="number">${number(error.count)}</td></tr>`)}</tbody></table>`}
  </section>`;
}

/** @param {{lists: any[]}} props */
function Lists({ lists }) {
  return html`<section class="card"><h2>${t("status.lists")}</h2>
    ${lists.length === 0 && html`<p class="quiet">${t("status.no_lists")}</p>`}
    ${lists.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense"><thead><tr><th scope="col">${t("status.name")}</th><th scope="col">${t("status.action")}</th><th scope="col">${t("status.kind")}</th><th scope="col" class="number">${t("status.entries")}</th></tr></thead>
      <tbody>${lists.map((list) => html`<tr key=${list.name}><th scope="row">${list.name}</th>
        <td><span class=${`badge badge-${list.action}`}>${list.action}</span>${list.withhold && html` <span class="badge">${t("status.withheld")}</span>`}</td>
        <td>${list.kind}</td><td class="number">${number(list.entries)}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}

/** Of one there is nothing to tell that is not told above. @param {{tritons: any[]}} props */
function Tritons({ tritons }) {
  if (tritons.length < 2) return null;
  return html`<section class="card"><h2>${t("status.tritons")}</h2>
    <div class="scroll" tabindex="0"><table class="dense"><thead><tr><th scope="col">${t("status.address")}</th><th scope="col">${t("status.state")}</th><th scope="col">${t("status.reason")}</th></tr></thead>
      <tbody>${tritons.map((one) => html`<tr key=${one.address}><th scope="row" class="mono">${one.address}</th>
        <td><span class=${`badge badge-${one.up ? "allow" : "block"}`}>${t(one.up ? "status.ready_short" : "status.unready_short")}</span></td>
        <td>${one.reason ?? ""}</td></tr>`)}</tbody></table></div>
  </section>`;
}

/** @param {{replicas: any[]}} props */
function Replicas({ replicas }) {
  return html`<section class="card"><h2>${t("status.replicas")}</h2>
    <div class="scroll" tabindex="0"><table class="dense"><thead><tr><th scope="col">${t("status.name")}</th><th scope="col">${t("status.state")}</th><th scope="col">${t("status.started")}</th><th scope="col">${t("status.seen")}</th></tr></thead>
      <tbody>${replicas.map((one) => html`<tr key=${one.id}><th scope="row" class="mono">${one.id}</th>
        <td><span class=${`badge badge-${one.ready ? (one.degraded?.length ? "review" : "allow") : "block"}`}>${t(one.ready ? (one.degraded?.length ? "status.degraded_short" : "status.ready_short") : "status.unready_short")}</span></td>
        <td class="nowrap">${time(one.started_at)}</td><td class="nowrap">${ago(one.seen_at)}</td></tr>`)}</tbody></table></div>
  </section>`;
}
