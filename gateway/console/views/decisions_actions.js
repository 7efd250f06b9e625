/** What can be done about a decision: a verdict, an appeal, a legal hold, forgetting. */
import { api, withQuery } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";
import { toast } from "../parts/toast.js";
import { go } from "../router.js";
import { may, useSession } from "../session.js";
import { t } from "../texts.js";

/** @typedef {{decision: any, onDone: () => void, onClose: () => void}} FormProps */

/** @param {{decision: any, onDone: () => void}} props */
export function Actions({ decision, onDone }) {
  const { session } = useSession();
  const [open, setOpen] = useState("");
  const known = Boolean(decision.external_id);
  /** @type {[string, boolean, any][]} */
  const actions = [
    ["feedback", may(session, "infer", "review", "manage"), Verdict],
    ["appeal", may(session, "infer", "review", "manage"), Appeal],
    ["hold", known && may(session, "manage"), Hold],
    ["forget", known && may(session, "manage"), Forget],
  ];
  return html`<div class="row">${actions.filter(([, allowed]) => allowed).map(
    ([name]) => html`<button key=${name} type="button" class=${name === "feedback" ? "primary" : ""} onClick=${() => setOpen(name)}>${t(`decisions.do.${name}`)}</button>`,
  )}
    ${actions.map(([name, , Form]) => html`<${Dialog} key=${name} open=${open === name} title=${t(`decisions.do.${name}`)} onClose=${() => setOpen("")}>
      <${Form} decision=${decision} onDone=${onDone} onClose=${() => setOpen("")} /><//>`)}
  </div>`;
}

/**
 * Run what a form asks for; say that it is done, or why not.
 * @param {() => Promise<any>} ask @param {string} done
 * @returns {[any, boolean, (event: Event) => Promise<void>]} the error, whether it runs, the form's handler
 */
function useSubmit(ask, done) {
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  return [
    error,
    busy,
    async (event) => {
      event.preventDefault();
      setBusy(true);
      setError(null);
      try {
        await ask();
        toast(done);
      } catch (failure) {
        setError(failure);
      }
      setBusy(false);
    },
  ];
}

/** @param {{error: any, busy: boolean, text: string, kind?: string, disabled?: boolean, onClose: () => void}} props */
function End({ error, busy, text, kind = "primary", disabled = false, onClose }) {
  return html`${error && html`<p role="alert" class="error-text">${error.detail ?? error.message}</p>`}
    <div class="row"><button type="submit" class=${kind} disabled=${busy || disabled}>${text}</button><button type="button" onClick=${onClose}>${t("app.cancel")}</button></div>`;
}

/** @param {FormProps} props */
function Verdict({ decision, onDone, onClose }) {
  const { session } = useSession();
  const [verdict, setVerdict] = useState("allow");
  const [categories, setCategories] = useState(/** @type {string[]} */ ([]));
  const [note, setNote] = useState("");
  const [listed, setListed] = useState(false);
  const names = [...new Set(Object.keys(decision.scores ?? {}))];
  const [error, busy, submit] = useSubmit(async () => {
    await api.post(`/v1/decisions/${encodeURIComponent(decision.id)}/feedback`, {
      decision: verdict, categories: verdict === "block" ? categories : [], note,
      ...(session.reviewer ? { reviewer: session.reviewer } : {}), ...(listed ? { add_to_list: true } : {}),
    });
    onClose();
    onDone();
  }, t("decisions.verdict_kept"));
  return html`<form class="stack" onSubmit=${submit}>
    <fieldset class="choices"><legend>${t("decisions.verdict")}</legend>${["allow", "block"].map(
      (one) => html`<label key=${one} class="check"><input type="radio" name="verdict" value=${one} checked=${verdict === one} onChange=${() => setVerdict(one)} />${t(`decision.${one}`)}</label>`,
    )}</fieldset>
    ${verdict === "block" && names.length > 0 && html`<fieldset class="choices"><legend>${t("decisions.because")}</legend>${names.map(
      (name) => html`<label key=${name} class="check"><input type="checkbox" checked=${categories.includes(name)} onChange=${() => setCategories((before) => (before.includes(name) ? before.filter((one) => one !== name) : [...before, name]))} />${name}</label>`,
    )}</fieldset>`}
    <label>${t("decisions.note")}<textarea maxlength="4000" value=${note} onInput=${(/** @type {any} */ event) => setNote(event.target.value)}></textarea></label>
    ${may(session, "manage") && html`<label class="check"><input type="checkbox" checked=${listed} onChange=${() => setListed(!listed)} />${t("decisions.add_to_list")}</label>`}
    <${End} error=${error} busy=${busy} text=${t("decisions.keep")} onClose=${onClose} />
  </form>`;
}

/** @param {FormProps} props */
function Appeal({ decision, onDone, onClose }) {
  const { session } = useSession();
  const [note, setNote] = useState("");
  const [error, busy, submit] = useSubmit(async () => {
    await api.post(`/v1/reviews/${encodeURIComponent(decision.id)}/appeal`, { note, ...(session.reviewer ? { by: session.reviewer } : {}) });
    onClose();
    onDone();
  }, t("decisions.appealed"));
  return html`<form class="stack" onSubmit=${submit}><p>${t("decisions.appeal_text")}</p>
    <label>${t("decisions.note")}<textarea maxlength="4000" value=${note} onInput=${(/** @type {any} */ event) => setNote(event.target.value)}></textarea></label>
    <${End} error=${error} busy=${busy} text=${t("decisions.do.appeal")} onClose=${onClose} /></form>`;
}

/** @param {FormProps} props */
function Hold({ decision, onClose }) {
  const [held, setHeld] = useState(/** @type {any} */ (undefined));
  const [reason, setReason] = useState("");
  useEffect(() => {
    api.get("/v1/legal-holds").then(
      ({ data }) => setHeld(data.find((/** @type {any} */ one) => one.external_id === decision.external_id) ?? null),
      () => setHeld(null),
    );
  }, []);
  const [error, busy, submit] = useSubmit(async () => {
    if (held) await api.del(withQuery("/v1/legal-holds", { external_id: decision.external_id }));
    else await api.put("/v1/legal-holds", { external_id: decision.external_id, reason });
    onClose();
  }, t(held ? "decisions.released" : "decisions.held"));
  if (held === undefined) return html`<p>${t("app.loading")}</p>`;
  return html`<form class="stack" onSubmit=${submit}>
    <p>${t(held ? "decisions.hold_there" : "decisions.hold_text", { id: decision.external_id })}</p>
    ${held && html`<blockquote>${held.reason}</blockquote>`}
    ${!held && html`<label>${t("decisions.hold_reason")}<input required maxlength="1000" value=${reason} onInput=${(/** @type {any} */ event) => setReason(event.target.value)} /></label>`}
    <${End} error=${error} busy=${busy} text=${t(held ? "decisions.release" : "decisions.do.hold")} kind=${held ? "block" : "primary"} onClose=${onClose} />
  </form>`;
}

/** @param {FormProps} props */
function Forget({ decision, onClose }) {
  const [typed, setTyped] = useState("");
  const [error, busy, submit] = useSubmit(async () => {
    await api.del(withQuery("/v1/decisions", { external_id: decision.external_id }));
    onClose();
    go("decisions");
  }, t("decisions.forgotten"));
  return html`<form class="stack" onSubmit=${submit}><p>${t("decisions.forget_text")}</p><p class="mono">${decision.external_id}</p>
    <label>${t("decisions.forget_type")}<input autocomplete="off" value=${typed} onInput=${(/** @type {any} */ event) => setTyped(event.target.value)} /></label>
    <${End} error=${error} busy=${busy} text=${t("decisions.do.forget")} kind="block" disabled=${typed !== decision.external_id} onClose=${onClose} /></form>`;
}
