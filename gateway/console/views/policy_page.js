/** One policy: its form and YAML beside what it would change, its versions, its rollout. */
import { html, useCallback, useEffect, useState } from "../html.js";
import { Loading, Notice } from "../parts/notice.js";
import { Unsaved } from "../parts/unsaved.js";
import { fromYaml, toYaml } from "../parts/yaml.js";
import { link } from "../router.js";
import { may, useSession } from "../session.js";
import { t } from "../texts.js";
import { bodyOf, problemsIn, problemsOf } from "./policy_body.js";
import { PolicyForm } from "./policy_form.js";
import { ImagesPreview, Preview, useSample } from "./policy_preview.js";
import { Rollout } from "./policy_rollout.js";
import { useStored } from "./stored_version.js";
import { Versions } from "./versions.js";

const TABS = ["edit", "versions", "rollout"];
const EMPTY = { description: "", views: "tiles", rules: [{ category: "", classifier: "", labels: [], review_at: 0.5, block_at: 0.9 }], attributes: [], openai_categories: {}, review_on: [], audit_share: 0 };

/** @param {{name: string, version: number | null}} props */
export function PolicyPage({ name, version }) {
  const { session } = useSession();
  const [tab, setTab] = useState("edit");
  const item = useStored("policies", name, version, bodyOf, EMPTY);
  const stays = useCallback((/** @type {string} */ hash) => hash.split("?")[0] === link("policies", name), [name]);
  if (item.error) return html`<h1>${name}</h1><${Notice} error=${item.error} onRetry=${item.load} />`;
  if (!item.draft) return html`<h1>${name}</h1><${Loading} />`;
  return html`
    <${Unsaved} dirty=${item.dirty} stays=${stays} />
    ${item.conflictDialog}
    <div class="view-head"><div class="stack tight"><p><a href=${link("policies")}>← ${t("nav.policies")}</a></p>
      <h1 class="row">${name} ${item.stored && html`<span class="badge">${t(item.stored.active ? "policies.active_version" : "policies.draft_version", { version: item.stored.version })}</span>`}
        ${item.from && item.stored && item.from.version !== item.stored.version && html`<span class="badge badge-review">${t("policies.editing_version", { version: item.from.version })}</span>`}</h1></div>
      ${item.stored && html`<div class="segments" role="group" aria-label=${t("policies.parts")}>${TABS.map((one) => html`<button key=${one} type="button" aria-pressed=${tab === one} onClick=${() => setTab(one)}>${t(`policies.tabs.${one}`)}</button>`)}</div>`}
    </div>
    ${tab === "edit" && html`<${Editor} name=${name} item=${item} may=${may(session, "manage")} />`}
    ${tab === "versions" && html`<${Versions} path=${item.path} bodyOf=${bodyOf} onChange=${item.load} edit=${(/** @type {number} */ number) => `${link("policies", name)}?version=${number}`} />`}
    ${tab === "rollout" && html`<${Rollout} name=${name} />`}
  `;
}

/** @param {{name: string, item: any, may: boolean}} props */
function Editor({ name, item, may: change }) {
  const { draft, setDraft } = item;
  const [asYaml, setAsYaml] = useState(false);
  const sample = useSample(name, draft, item.stored !== null);
  const own = problemsOf(draft);
  const said = [item.problem, sample.problem].find((problem) => problem && (problem.status === 422 || problem.status === 400 || problem.status === 409));
  const found = Object.keys(own).length ? own : said ? problemsIn(said.detail) : {};
  const differs = item.dirty || !item.stored || item.from?.version !== item.stored.version;
  const blocked = !change || item.busy || Object.keys(own).length > 0;
  return html`
    <div class="save-bar" role="region" aria-label=${t("policies.save_bar")}>
      <span role="status" class="quiet">${item.dirty ? t("policies.unsaved") : differs ? t("policies.not_in_force") : t("policies.nothing_changed")}</span>
      <div class="row">
        <button type="button" class="plain" disabled=${!item.dirty || item.busy} onClick=${item.reset}>${t("policies.reset")}</button>
        <button type="button" disabled=${blocked || !item.dirty} onClick=${() => item.save(false)}>${t("policies.save_draft")}</button>
        <button type="button" class="primary" disabled=${blocked || !differs} onClick=${() => item.save(true)}>${t("policies.put_in_force")}</button>
      </div>
    </div>
    ${(found[""] || (item.problem && !said)) && html`<p role="alert" class="error-text">${found[""] ?? item.problem.detail}</p>`}
    <div class="split policy-split">
      <div class="stack">
        <div class="segments" role="group" aria-label=${t("policies.written_as")}><button type="button" aria-pressed=${!asYaml} onClick=${() => setAsYaml(false)}>${t("policies.form")}</button>
          <button type="button" aria-pressed=${asYaml} onClick=${() => setAsYaml(true)}>YAML</button></div>
        <div class=${`policy-written ${asYaml ? "with-yaml" : ""}`}>
          ${asYaml && html`<${YamlField} value=${draft} onChange=${setDraft} />`}
          ${!asYaml && html`<${PolicyForm} draft=${draft} onChange=${setDraft} found=${found} spreads=${sample.spreads} disabled=${!change} />`}
        </div>
      </div>
      <div class="stack sticky-side">
        <${Preview} sample=${sample} rules=${draft.rules ?? []} stored=${item.stored !== null} />
        ${change && item.stored && html`<${ImagesPreview} name=${name} draft=${draft} />`}
      </div>
    </div>`;
}

/** The same body as YAML; what cannot be read stays in the field, and says why. @param {{value: any, onChange: (body: any) => void}} props */
export function YamlField({ value, onChange }) {
  const [text, setText] = useState(() => toYaml(value));
  const [error, setError] = useState("");
  const [given, setGiven] = useState(value);
  useEffect(() => {
    if (JSON.stringify(value) !== JSON.stringify(given)) {
      setText(toYaml(value));
      setGiven(value);
      setError("");
    }
  }, [value]);
  const read = (/** @type {any} */ event) => {
    setText(event.target.value);
    try {
      const body = fromYaml(event.target.value);
      setError("");
      setGiven(body);
      onChange(body);
    } catch (failure) {
      setError(/** @type {any} */ (failure).reason ?? /** @type {any} */ (failure).message);
    }
  };
  return html`<label class="stack tight">${t("policies.yaml")}<textarea class="mono yaml" rows="28" spellcheck=${false} value=${text} aria-invalid=${error ? "true" : "false"} onInput=${read}></textarea>
    ${error && html`<span role="alert" class="error-text">${error}</span>`}</label>`;
}
