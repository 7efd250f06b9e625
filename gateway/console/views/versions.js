/** The versions of a policy or classifier: what changed from one to another, and putting one in force. */
import { api } from "../api.js";
import { html, useCallback, useEffect, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";
import { Diff } from "../parts/diff.js";
import { Loading, Notice } from "../parts/notice.js";
import { toast } from "../parts/toast.js";
import { toYaml } from "../parts/yaml.js";
import { may, useSession } from "../session.js";
import { t, time } from "../texts.js";

/** @param {{path: string, bodyOf: (shown: any) => any, onChange: () => void, edit?: (version: number) => string}} props `edit`: where a version is edited */
export function Versions({ path, bodyOf, onChange, edit }) {
  const { session } = useSession();
  const [versions, setVersions] = useState(/** @type {any[] | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [shown, setShown] = useState(/** @type {number | null} */ (null));
  const [asked, setAsked] = useState(/** @type {any} */ (null));
  const load = useCallback(async () => {
    try {
      const { data } = await api.get(`${path}/versions`);
      setVersions(data.toSorted((/** @type {any} */ one, /** @type {any} */ other) => other.version - one.version));
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, [path]);
  useEffect(() => void load(), [load]);
  const active = versions?.find((one) => one.active) ?? null;
  const chosen = versions?.find((one) => one.version === shown) ?? versions?.[0] ?? null;
  const base = chosen?.active ? versions?.find((one) => one.version < chosen.version) ?? null : active;
  const activate = async () => {
    try {
      await api.post(`${path}/activate`, { version: asked.version });
      toast(t("policies.in_force", { version: asked.version }));
      onChange();
    } catch (failure) {
      toast(/** @type {any} */ (failure).detail, "error");
    }
    setAsked(null);
    await load();
  };
  if (error) return html`<${Notice} error=${error} onRetry=${load} />`;
  if (!versions) return html`<${Loading} />`;
  return html`<div class="split reversed"><section class="card"><h2>${t("policies.versions")}</h2>
      <ol class="versions">${versions.map((one) => html`<li key=${one.version}>
        <button type="button" class="plain version" aria-pressed=${one.version === chosen?.version} onClick=${() => setShown(one.version)}>
          <strong>${t("policies.version", { version: one.version })}</strong>${one.active && html`<span class="badge badge-allow">${t("policies.active")}</span>`}
          <span class="quiet small">${time(one.created_at)}</span></button></li>`)}</ol></section>
    <section class="card">${chosen && html`<div class="view-head"><h2>${base ? t("policies.against", { version: chosen.version, base: base.version }) : t("policies.version", { version: chosen.version })}</h2>
        <div class="row">${edit && html`<a class="button" href=${edit(chosen.version)}>${t("policies.edit_from")}</a>`}
        ${!chosen.active && may(session, "manage") && html`<button type="button" class="primary" onClick=${() => setAsked(chosen)}>${t(active && chosen.version < active.version ? "policies.roll_back" : "policies.put_in_force")}</button>`}</div></div>
      ${base ? html`<${Diff} label=${t("policies.versions")} before=${toYaml(bodyOf(base))} after=${toYaml(bodyOf(chosen))} />` : html`<pre tabindex="0">${toYaml(bodyOf(chosen))}</pre>`}`}</section>
    <${Dialog} open=${asked !== null} title=${t("policies.put_in_force")} onClose=${() => setAsked(null)}>
      <div class="stack"><p>${t("policies.activate_text", { version: asked?.version ?? "" })}</p>
        <div class="row"><button type="button" class="primary" onClick=${activate}>${t("policies.put_in_force")}</button><button type="button" onClick=${() => setAsked(null)}>${t("app.cancel")}</button></div></div>
    <//></div>`;
}
