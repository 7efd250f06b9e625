/** Keys, sessions and the audit. */
import { api } from "../api.js";
import { html, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";
import { toast } from "../parts/toast.js";
import { ago, t, time } from "../texts.js";
import { usePages, usePolled } from "./polled.js";

const SLOWLY_MS = 30_000;

export function Keys() {
  const { data, error } = usePolled("/v1/keys", SLOWLY_MS);
  const keys = data?.data ?? [];
  return html`<section class="card"><h2>${t("status.keys")}</h2>
    ${error && html`<p class="error-text">${error.detail}</p>`}
    ${data && keys.length === 0 && html`<p class="quiet">${t("signin.open")}</p>`}
    ${keys.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense">
      <thead><tr><th scope="col">${t("status.name")}</th><th scope="col">${t("status.roles")}</th><th scope="col">${t("status.rate")}</th><th scope="col">${t("status.last_used")}</th></tr></thead>
      <tbody>${keys.map((/** @type {any} */ key) => html`<tr key=${key.name}><th scope="row">${key.name}</th>
        <td>${key.roles.map((/** @type {string} */ role) => html`<span class="badge">${role}</span> `)}</td>
        <td>${key.rate ?? "–"}</td><td>${key.last_used_at ? ago(key.last_used_at) : t("status.never")}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}

export function Sessions() {
  const { data, error, again } = usePolled("/v1/sessions", SLOWLY_MS);
  const [ending, setEnding] = useState(/** @type {any} */ (null));
  const sessions = data?.data ?? [];
  const revoke = async () => {
    try {
      await api.del(`/v1/sessions/${encodeURIComponent(ending.id)}`);
      toast(t("status.revoked"));
    } catch (failure) {
      toast(/** @type {any} */ (failure).detail, "error");
    }
    setEnding(null);
    again();
  };
  return html`<section class="card"><h2>${t("status.sessions")}</h2>
    ${error && html`<p class="error-text">${error.detail}</p>`}
    ${data && sessions.length === 0 && html`<p class="quiet">${t("status.no_sessions")}</p>`}
    ${sessions.length > 0 && html`<div class="scroll" tabindex="0"><table class="dense">
      <thead><tr><th scope="col">${t("status.who")}</th><th scope="col">${t("status.signed_in_by")}</th><th scope="col">${t("status.seen")}</th><th scope="col">${t("status.expires")}</th><th scope="col"><span class="hidden">${t("status.revoke")}</span></th></tr></thead>
      <tbody>${sessions.map((/** @type {any} */ one) => html`<tr key=${one.id}><th scope="row">${one.reviewer ?? one.name}${one.reviewer && html` <span class="quiet small">${one.name}</span>`}</th>
        <td>${t(`status.by.${one.by}`)}</td><td>${ago(one.seen_at)}</td><td>${ago(one.expires_at)}</td>
        <td><button type="button" class="plain" onClick=${() => setEnding(one)}>${t("status.revoke")}</button></td></tr>`)}</tbody></table></div>`}
    <${Dialog} open=${ending !== null} title=${t("status.revoke_title")} onClose=${() => setEnding(null)}>
      <div class="stack"><p>${t("status.revoke_text", { who: ending?.reviewer ?? ending?.name ?? "" })}</p>
        <div class="row"><button type="button" class="block" onClick=${revoke}>${t("status.revoke")}</button><button type="button" onClick=${() => setEnding(null)}>${t("app.cancel")}</button></div></div>
    <//>
  </section>`;
}

export function Audit() {
  const { rows, more, error, loading, again } = usePages("/v1/audit?limit=12");
  return html`<section class="card"><div class="view-head"><h2>${t("status.audit")}</h2>
      <button type="button" class="plain" onClick=${again}>${t("status.refresh")}</button></div>
    ${error && html`<p class="error-text">${error.detail}</p>`}
    ${!loading && rows.length === 0 && !error && html`<p class="quiet">${t("status.no_audit")}</p>`}
    ${rows.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label=${t("status.audit")}><table class="dense">
      <thead><tr><th scope="col">${t("status.at")}</th><th scope="col">${t("status.who")}</th><th scope="col">${t("status.what")}</th><th scope="col">${t("status.of")}</th></tr></thead>
      <tbody>${rows.map((row, place) => html`<tr key=${place}><td class="nowrap">${time(row.at)}</td><td>${row.actor}</td><td>${row.action}</td>
        <td>${row.kind} <span class="mono">${row.name}${row.version ? `@${row.version}` : ""}</span></td></tr>`)}</tbody></table></div>`}
    ${more && html`<div class="row"><button type="button" onClick=${more}>${t("status.more")}</button></div>`}
  </section>`;
}
