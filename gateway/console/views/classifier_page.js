/** One classifier: its labels and their prompts, its versions, deleting it. */
import { api } from "../api.js";
import { html, useCallback, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";
import { Loading, Notice } from "../parts/notice.js";
import { toast } from "../parts/toast.js";
import { Unsaved } from "../parts/unsaved.js";
import { go, link } from "../router.js";
import { may, useSession } from "../session.js";
import { t } from "../texts.js";
import { problemsIn } from "./policy_body.js";
import { Field } from "./policy_form.js";
import { YamlField } from "./policy_page.js";
import { useStored } from "./stored_version.js";
import { Versions } from "./versions.js";

const ADDED = ["name", "version", "active", "created_at"];
const EMPTY = { mode: "softmax", labels: [{ label: "" }, { label: "" }], description: "" };
const TABS = ["edit", "versions"];

/** @param {any} shown */
const bodyOf = (shown) => Object.fromEntries(Object.entries(shown).filter(([name]) => !ADDED.includes(name)));

/** @param {{name: string}} props */
export function ClassifierPage({ name }) {
  const { session } = useSession();
  const [tab, setTab] = useState("edit");
  const [asYaml, setAsYaml] = useState(false);
  const [deleting, setDeleting] = useState(false);
  const [refused, setRefused] = useState("");
  const item = useStored("classifiers", name, null, bodyOf, EMPTY);
  const stays = useCallback((/** @type {string} */ hash) => hash === link("policies", "classifiers", name), [name]);
  if (item.error) return html`<h1>${name}</h1><${Notice} error=${item.error} onRetry=${item.load} />`;
  if (!item.draft) return html`<h1>${name}</h1><${Loading} />`;
  const { draft, setDraft } = item;
  const head = draft.kind === "head";
  const change = may(session, "manage");
  const found = item.problem ? problemsIn(item.problem.detail ?? item.problem.message) : {};
  const remove = async () => {
    try {
      await api.del(item.path);
      toast(t("policies.deleted"));
      item.reset();
      go("policies");
    } catch (failure) {
      setRefused(/** @type {any} */ (failure).detail);
    }
  };
  return html`<${Unsaved} dirty=${item.dirty} stays=${stays} />${item.conflictDialog}
    <div class="view-head"><div class="stack tight"><p><a href=${link("policies")}>← ${t("nav.policies")}</a></p><h1 class="row">${name}${item.stored && html`<span class="badge">${t("policies.version", { version: item.stored.version })}</span>`}</h1></div>
      ${item.stored && html`<div class="row"><div class="segments" role="group" aria-label=${t("policies.parts")}>${TABS.map((one) => html`<button key=${one} type="button" aria-pressed=${tab === one} onClick=${() => setTab(one)}>${t(`policies.tabs.${one}`)}</button>`)}</div>
        ${change && html`<button type="button" class="block" onClick=${() => setDeleting(true)}>${t("policies.delete")}</button>`}</div>`}</div>
    ${tab === "versions" && html`<${Versions} path=${item.path} bodyOf=${bodyOf} onChange=${item.load} />`}
    ${tab === "edit" && head && html`<section class="card"><h2>${t("policies.trained")}</h2><p class="quiet">${t("policies.train_text")}</p>
      <p><a href="/docs">${t("policies.train_link")}</a></p><ul>${(draft.labels ?? []).map((/** @type {any} */ label) => html`<li key=${String(label.label ?? label)}>${label.label ?? label}</li>`)}</ul></section>`}
    ${tab === "edit" && !head && html`
      <div class="save-bar" role="region" aria-label=${t("policies.save_bar")}><span role="status" class="quiet">${t(item.dirty ? "policies.unsaved" : "policies.nothing_changed")}</span>
        <div class="row"><button type="button" class="plain" disabled=${!item.dirty} onClick=${item.reset}>${t("policies.reset")}</button>
        <button type="button" disabled=${!change || !item.dirty || item.busy} onClick=${() => item.save(false)}>${t("policies.save_draft")}</button>
        <button type="button" class="primary" disabled=${!change || !item.dirty || item.busy} onClick=${() => item.save(true)}>${t("policies.put_in_force")}</button></div></div>
      ${found[""] && html`<p role="alert" class="error-text">${found[""]}</p>`}
      ${Object.entries(found).filter(([path]) => path).map(([path, said]) => html`<p key=${path} role="alert" class="error-text"><span class="mono">${path}</span> ${said}</p>`)}
      <div class="segments" role="group" aria-label=${t("policies.written_as")}><button type="button" aria-pressed=${!asYaml} onClick=${() => setAsYaml(false)}>${t("policies.form")}</button><button type="button" aria-pressed=${asYaml} onClick=${() => setAsYaml(true)}>YAML</button></div>
      ${asYaml ? html`<${YamlField} value=${draft} onChange=${setDraft} />` : html`<${Labels} draft=${draft} onChange=${setDraft} disabled=${!change} />`}
      <p class="quiet small">${t("policies.train_text")} <a href="/docs">${t("policies.train_link")}</a></p>`}
    <${Dialog} open=${deleting} title=${t("policies.delete_title", { name })} onClose=${() => setDeleting(false)}><div class="stack"><p>${t("policies.delete_text")}</p>
      ${refused && html`<p role="alert" class="error-text">${refused}</p>`}
      <div class="row"><button type="button" class="block" onClick=${remove}>${t("policies.delete")}</button><button type="button" onClick=${() => setDeleting(false)}>${t("app.cancel")}</button></div></div><//>`;
}

const lines = (/** @type {string} */ text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** @param {{draft: any, onChange: (body: any) => void, disabled: boolean}} props */
function Labels({ draft, onChange, disabled }) {
  const labels = (draft.labels ?? []).map((/** @type {any} */ label) => (typeof label === "string" ? { label } : label));
  const set = (/** @type {number} */ place, /** @type {any} */ changed) => onChange({ ...draft, labels: labels.map((/** @type {any} */ one, /** @type {number} */ at) => (at === place ? { ...one, ...changed } : one)) });
  return html`<form class="stack" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}><fieldset class="bare stack" disabled=${disabled}>
    <section class="card"><div class="fields"><${Field} name="mode" hint=${`mode_${draft.mode ?? "softmax"}`}>${(/** @type {any} */ more) => html`<select ...${more} value=${draft.mode ?? "softmax"} onChange=${(/** @type {any} */ event) => onChange({ ...draft, mode: event.target.value })}><option value="softmax">softmax</option><option value="independent">independent</option></select>`}<//></div>
      <${Field} name="description">${(/** @type {any} */ more) => html`<textarea ...${more} maxlength="4000" value=${draft.description ?? ""} onInput=${(/** @type {any} */ event) => onChange({ ...draft, description: event.target.value })}></textarea>`}<//></section>
    <div class="columns">${labels.map((/** @type {any} */ label, /** @type {number} */ place) => html`<section key=${place} class="card" aria-label=${label.label || t("policies.label")}>
      <${Field} name="label">${(/** @type {any} */ more) => html`<input ...${more} value=${label.label} onInput=${(/** @type {any} */ event) => set(place, { label: event.target.value })} />`}<//>
      <${Field} name="prompts" hint="prompts_hint">${(/** @type {any} */ more) => html`<textarea ...${more} rows="4" value=${(label.prompts ?? []).join("\n")} onChange=${(/** @type {any} */ event) => set(place, { prompts: lines(event.target.value) })}></textarea>`}<//>
      ${draft.mode === "independent" && html`<${Field} name="negatives" hint="negatives_hint">${(/** @type {any} */ more) => html`<textarea ...${more} rows="3" value=${(label.negatives ?? []).join("\n")} onChange=${(/** @type {any} */ event) => set(place, { negatives: lines(event.target.value) })}></textarea>`}<//>`}
      ${labels.length > 1 && html`<div class="row"><button type="button" class="plain small" onClick=${() => onChange({ ...draft, labels: labels.filter((/** @type {any} */ _, /** @type {number} */ at) => at !== place) })}>${t("policies.remove_label")}</button></div>`}
    </section>`)}</div>
    <div class="row"><button type="button" onClick=${() => onChange({ ...draft, labels: [...labels, { label: "" }] })}>${t("policies.add_label")}</button></div>
  </fieldset></form>`;
}
