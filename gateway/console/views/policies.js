/** Policies and classifiers: which there are, and one of them. */
import { html, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";
import { Loading, Notice } from "../parts/notice.js";
import { go, link } from "../router.js";
import { may, useSession } from "../session.js";
import { percent, t, time } from "../texts.js";
import { ClassifierPage } from "./classifier_page.js";
import { usePolled } from "./polled.js";
import { PolicyPage } from "./policy_page.js";

const EVERY_MS = 60_000;
const NAME = "[a-z0-9][a-z0-9_.\\-]{0,63}";

/** @param {{route: import("../router.js").Route}} props */
export default function Policies({ route }) {
  const [name, classifier] = route.rest;
  if (classifier) return html`<${ClassifierPage} key=${`classifier ${classifier}`} name=${classifier} />`;
  if (name) return html`<${PolicyPage} key=${`policy ${name} ${route.query.get("version") ?? ""}`} name=${name} version=${Number(route.query.get("version")) || null} />`;
  return html`<${Everything} />`;
}

function Everything() {
  const { session } = useSession();
  const policies = usePolled("/v1/policies", EVERY_MS);
  const classifiers = usePolled("/v1/classifiers", EVERY_MS);
  const [making, setMaking] = useState("");
  const error = policies.error ?? classifiers.error;
  const change = may(session, "manage");
  return html`
    <div class="view-head"><h1>${t("nav.policies")}</h1>
      ${change && html`<div class="row"><button type="button" onClick=${() => setMaking("classifier")}>${t("policies.new_classifier")}</button>
        <button type="button" class="primary" onClick=${() => setMaking("policy")}>${t("policies.new_policy")}</button></div>`}</div>
    ${error && html`<${Notice} error=${error} onRetry=${policies.again} />`}
    ${!policies.data && !error && html`<${Loading} />`}
    ${policies.data && html`<section class="stack"><h2>${t("policies.policies")}</h2>
      <ul class="tiles-list">${policies.data.data.map((/** @type {any} */ policy) => html`<li key=${policy.name}><a class="card tile" href=${link("policies", policy.name)}>
        <span class="row spread"><strong class="wrap">${policy.name}</strong><span class="quiet small">${t("policies.version", { version: policy.version })}${policy.active ? "" : ` · ${t("policies.draft")}`}</span></span>
        ${policy.description && html`<span class="quiet clamp">${policy.description}</span>`}
        <span class="rules">${policy.rules.slice(0, 6).map((/** @type {any} */ rule, /** @type {number} */ place) => html`<span key=${place} class="rule-line"><span class="wrap">${rule.category}</span>
          <span class="strip" aria-hidden="true" style=${{ "--review": rule.review_at ?? rule.block_at ?? 1, "--block": rule.block_at ?? 1 }}></span>
          <span class="quiet small nowrap">${[rule.review_at, rule.block_at].map((at) => (at === null || at === undefined ? "–" : percent(at))).join(" / ")}</span></span>`)}
          ${policy.rules.length > 6 && html`<span class="quiet small">${t("policies.more_rules", { count: policy.rules.length - 6 })}</span>`}</span>
      </a></li>`)}</ul></section>`}
    ${classifiers.data && html`<section class="card"><h2>${t("policies.classifiers")}</h2><p class="quiet">${t("policies.classifiers_are")}</p>
      <div class="scroll"><table class="dense"><thead><tr><th scope="col">${t("status.name")}</th><th scope="col">${t("policies.labels")}</th><th scope="col">${t("policies.mode")}</th><th scope="col" class="number">${t("policies.version_head")}</th><th scope="col">${t("status.at")}</th></tr></thead>
        <tbody>${classifiers.data.data.map((/** @type {any} */ one) => html`<tr key=${one.name}><th scope="row"><a href=${link("policies", "classifiers", one.name)}>${one.name}</a></th>
          <td class="wrap">${(one.labels ?? []).map((/** @type {any} */ label) => (typeof label === "string" ? label : label.label)).join(", ")}</td><td>${one.kind === "head" ? t("policies.trained") : one.mode}</td>
          <td class="number">${one.version}</td><td class="nowrap">${time(one.created_at)}</td></tr>`)}</tbody></table></div></section>`}
    <${Dialog} open=${making !== ""} title=${t(`policies.new_${making || "policy"}`)} onClose=${() => setMaking("")}><${NewName} kind=${making} /><//>
  `;
}

/** @param {{kind: string}} props */
function NewName({ kind }) {
  const [name, setName] = useState("");
  return html`<form class="stack" onSubmit=${(/** @type {Event} */ event) => {
    event.preventDefault();
    if (kind === "policy") go("policies", name);
    else go("policies", "classifiers", name);
  }}><label>${t("status.name")}<input required autofocus pattern=${NAME} value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} />
    <span class="field-hint">${t("policies.name_hint")}</span></label>
    <div class="row"><button type="submit" class="primary">${t("policies.begin")}</button></div></form>`;
}
