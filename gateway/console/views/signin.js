/** Exchange a key for a session. */
import { html, useState } from "../html.js";
import { signIn, useSession } from "../session.js";
import { t } from "../texts.js";

export default function SignIn() {
  const { session, reload } = useSession();
  const [key, setKey] = useState("");
  const [reviewer, setReviewer] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await signIn(key.trim(), reviewer.trim());
      await reload();
    } catch (failure) {
      const problem = /** @type {import("../api.js").Problem} */ (failure);
      setError(problem.status === 401 ? t("signin.wrong") : problem.message);
      setBusy(false);
    }
  };
  return html`<form class="card signin" onSubmit=${submit}>
    <div class="stack tight"><img src="/console/icon.svg" alt="" width="40" height="40" /><h1>${t("signin.title")}</h1><p class="quiet">${t("signin.lead")}</p></div>
    <label>${t("signin.key")}
      <input type="password" autocomplete="current-password" required value=${key} aria-invalid=${error ? "true" : undefined} aria-describedby="signin-error"
        onInput=${(/** @type {any} */ event) => setKey(event.target.value)} />
      <span class="field-hint">${t("signin.key_hint")}</span></label>
    <label>${t("signin.reviewer")}
      <input autocomplete="name" maxlength="64" value=${reviewer} onInput=${(/** @type {any} */ event) => setReviewer(event.target.value)} />
      <span class="field-hint">${t("signin.reviewer_hint")}</span></label>
    <p id="signin-error" role="alert" class="error-text">${error}</p>
    <button class="primary" disabled=${busy}>${t("signin.submit")}</button>
    ${session.oidc && html`<a class="button" href="/v1/session/oidc">${t("signin.oidc")}</a>`}
  </form>`;
}
