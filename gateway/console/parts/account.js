/** The menu at the end of the top line: colors, name, roles, sign out. */
import { html, useState } from "../html.js";
import { setReviewer, signOut, useSession } from "../session.js";
import { t } from "../texts.js";
import { toast } from "./toast.js";

const THEME = "console.theme";
const THEMES = ["auto", "light", "dark"];

const chosenTheme = () => localStorage.getItem(THEME) ?? "auto";

/** Show the page in the colors that were chosen. */
export function applyTheme() {
  const theme = chosenTheme();
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function Account() {
  const { session, reload } = useSession();
  const [theme, setTheme] = useState(chosenTheme);
  const [name, setName] = useState(session.reviewer ?? "");
  const choose = (/** @type {string} */ next) => {
    localStorage.setItem(THEME, next);
    setTheme(next);
    applyTheme();
  };
  const attempt = async (/** @type {() => Promise<unknown>} */ work) => {
    try {
      await work();
      await reload();
    } catch (error) {
      toast(/** @type {Error} */ (error).message, "error");
    }
  };
  const rename = (/** @type {Event} */ event) => {
    event.preventDefault();
    void attempt(() => setReviewer(session, name.trim()).then(() => toast(t("account.name_kept"))));
  };
  const shown = session.reviewer ?? session.name ?? t("account.you");
  return html`
    <button type="button" class="plain account-button" popovertarget="account">
      <span class="hidden">${t("account.menu")}</span>
      <span class="avatar" aria-hidden="true">${[...shown][0]?.toUpperCase()}</span><span class="account-name">${shown}</span>
    </button>
    <div id="account" popover class="menu">
      <fieldset class="stack tight"><legend>${t("app.theme")}</legend>
        <div class="segments">${THEMES.map((one) => html`<button key=${one} type="button" aria-pressed=${one === theme ? "true" : "false"} onClick=${() => choose(one)}>${t(`app.theme_${one}`)}</button>`)}</div>
      </fieldset>
      ${(session.open || session.signed_in) && html`<form class="stack tight" onSubmit=${rename}>
        <label>${t("signin.reviewer")}<input value=${name} maxlength="64" autocomplete="name" onInput=${(/** @type {any} */ event) => setName(event.target.value)} />
          <span class="field-hint">${t("signin.reviewer_hint")}</span></label>
        <button>${t("account.keep_name")}</button>
      </form>
      <p class="quiet small">${session.open ? t("signin.open") : t("account.roles", { name: session.name ?? "", roles: session.roles.join(", ") })}</p>`}
      ${session.signed_in && html`<button type="button" onClick=${() => attempt(signOut)}>${t("signin.out")}</button>`}
      <p class="quiet small">${t("account.version", { version: session.version })} · <a href="/docs">${t("account.api")}</a></p>
    </div>`;
}
