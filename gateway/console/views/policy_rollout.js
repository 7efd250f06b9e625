/** What runs beside the active version: a shadow, or a candidate for a share of the images. */
import { api, withQuery } from "../api.js";
import { html, useCallback, useEffect, useState } from "../html.js";
import { Loading, Notice } from "../parts/notice.js";
import { toast } from "../parts/toast.js";
import { link } from "../router.js";
import { may, useSession } from "../session.js";
import { percent, t } from "../texts.js";
import { Field } from "./policy_form.js";

/** @param {{name: string}} props */
export function Rollout({ name }) {
  const { session } = useSession();
  const path = `/v1/policies/${encodeURIComponent(name)}/rollout`;
  const [state, setState] = useState(/** @type {any} */ ({ loading: true }));
  const [shadow, setShadow] = useState("");
  const [version, setVersion] = useState("");
  const [share, setShare] = useState(0.1);
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const load = useCallback(async () => {
    const [found, versions] = await Promise.allSettled([api.get(path), api.get(`/v1/policies/${encodeURIComponent(name)}/versions`)]);
    const rollout = found.status === "fulfilled" ? found.value : null;
    if (found.status === "rejected" && found.reason.status !== 404) return setState({ loading: false, error: found.reason });
    setState({ loading: false, rollout, versions: versions.status === "fulfilled" ? versions.value.data : [] });
    setShadow(rollout?.shadow ?? "");
    setVersion(rollout?.candidate ? String(rollout.candidate.version) : "");
    setShare(rollout?.candidate?.share ?? 0.1);
  }, [path]);
  useEffect(() => void load(), [load]);
  /** @param {() => Promise<any>} ask @param {string} done */
  const run = async (ask, done) => {
    setProblem(null);
    try {
      await ask();
      toast(done);
      await load();
    } catch (failure) {
      setProblem(failure);
    }
  };
  if (state.loading) return html`<${Loading} />`;
  if (state.error) return html`<${Notice} error=${state.error} onRetry=${load} />`;
  const { rollout, versions } = state;
  const change = may(session, "manage");
  return html`<div class="columns"><section class="card"><h2>${t("policies.runs_beside")}</h2>
      ${!rollout && html`<p class="quiet">${t("policies.no_rollout")}</p>`}
      ${rollout && html`<dl class="facts">${rollout.shadow && html`<div><dt>${t("policies.shadow")}</dt><dd>${rollout.shadow}</dd></div>`}
        ${rollout.candidate && html`<div><dt>${t("policies.candidate")}</dt><dd>${t("policies.share_of", { version: rollout.candidate.version, share: percent(rollout.candidate.share) })}</dd></div>`}</dl>
        <p><a href=${withQuery(link("decisions"), { policy: name, shadow_differs: "true" })}>${t("policies.where_differs")}</a></p>
        ${change && html`<div class="row"><button type="button" onClick=${() => run(() => api.del(path), t("policies.rollout_ended"))}>${t("policies.end_rollout")}</button></div>`}`}</section>
    ${change && html`<form class="card" onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      void run(() => api.put(path, { ...(shadow ? { shadow } : {}), ...(version ? { candidate: { version: Number(version), share } } : {}) }), t("policies.rollout_set"));
    }}><h2>${t("policies.set_rollout")}</h2><p class="quiet">${t("policies.rollout_text")}</p>
      <${Field} name="shadow" hint="shadow_hint">${(/** @type {any} */ more) => html`<input ...${more} maxlength="74" pattern="[a-z0-9][a-z0-9_.\\-]{0,63}(@[1-9][0-9]{0,8})?" value=${shadow} onInput=${(/** @type {any} */ event) => setShadow(event.target.value)} />`}<//>
      <${Field} name="candidate">${(/** @type {any} */ more) => html`<select ...${more} value=${version} onChange=${(/** @type {any} */ event) => setVersion(event.target.value)}><option value="">${t("policies.none")}</option>
        ${versions.filter((/** @type {any} */ one) => !one.active).map((/** @type {any} */ one) => html`<option key=${one.version} value=${String(one.version)}>${t("policies.version", { version: one.version })}</option>`)}</select>`}<//>
      ${version && html`<${Field} name="share">${(/** @type {any} */ more) => html`<div class="row nowrap-row"><input ...${more} type="range" min="0" max="1" step="0.01" value=${share} onInput=${(/** @type {any} */ event) => setShare(Number(event.target.value))} /><span class="number">${percent(share)}</span></div>`}<//>`}
      ${problem && html`<p role="alert" class="error-text">${problem.detail}</p>`}
      <div class="row"><button type="submit" class="primary" disabled=${!shadow && !version}>${t("policies.set_rollout")}</button></div></form>`}</div>`;
}
