/** The frame around the views: navigation, session, connection, errors. */
import { events, isReachable } from "./api.js";
import { watchConnection } from "./connection.js";
import { html, render, useCallback, useEffect, useErrorBoundary, useState } from "./html.js";
import { Account, applyTheme } from "./parts/account.js";
import { Loading, Notice } from "./parts/notice.js";
import { KeyboardHelp } from "./parts/keys.js";
import { Toasts } from "./parts/toast.js";
import { link, useRoute } from "./router.js";
import { load, may, SessionContext } from "./session.js";
import { t } from "./texts.js";

/** View → where it stands, and the roles of which one is needed. @type {Record<string, {roles: string[], load: () => Promise<any>}>} */
const VIEWS = {
  try: { roles: ["infer"], load: () => import("./views/try.js") },
  review: { roles: ["review"], load: () => import("./views/review.js") },
  decisions: { roles: ["read"], load: () => import("./views/decisions.js") },
  policies: { roles: ["read", "manage"], load: () => import("./views/policies.js") },
  evaluate: { roles: ["read", "manage"], load: () => import("./views/evaluate.js") },
  status: { roles: ["read", "manage", "review"], load: () => import("./views/status.js") },
};

function App() {
  const [session, setSession] = useState(/** @type {import("./session.js").Session | null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const reload = useCallback(async () => {
    try {
      setSession(await load());
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, []);
  useEffect(() => {
    void reload();
    events.addEventListener("signedout", reload);
    return () => events.removeEventListener("signedout", reload);
  }, [reload]);
  if (error) return html`<main class="alone"><${Notice} error=${error} onRetry=${reload} /></main>`;
  if (!session) return html`<main class="alone"><${Loading} /></main>`;
  return html`<${SessionContext.Provider} value=${{ session, reload }}><${Frame} session=${session} /><//>`;
}

/** @param {{session: import("./session.js").Session}} props */
function Frame({ session }) {
  const route = useRoute();
  const [failure, again] = useErrorBoundary();
  useEffect(() => {
    if (failure) again();
  }, [route.view]);
  const signedOut = !session.open && !session.signed_in;
  const open = Object.keys(VIEWS).filter((name) => !signedOut && may(session, ...VIEWS[name].roles));
  const name = route.view || (open[0] ?? "try");
  const view = VIEWS[name];
  return html`
    <a class="skip" href="#main">${t("app.skip")}</a>
    <${Top} session=${session} open=${open} here=${name} />
    <${Connection} />
    <main id="main" tabindex="-1" class=${`view view-${name}`}>
      ${signedOut
        ? html`<${Lazy} key="signin" load=${() => import("./views/signin.js")} />`
        : !view
          ? html`<${Notice} text=${t("app.not_found")} />`
          : !open.includes(name)
            ? html`<${Notice} text=${t("app.forbidden", { roles: view.roles.join(" / ") })} />`
            : failure
              ? html`<${Notice} error=${failure} text=${t("app.failed")} onRetry=${again} />`
              : html`<${Lazy} key=${name} load=${view.load} route=${route} />`}
    </main>
    <${Toasts} />
    <${KeyboardHelp} />
  `;
}

/** @param {{session: import("./session.js").Session, open: string[], here: string}} props open: the views that this person may see */
function Top({ session, open, here }) {
  return html`
    <header class="top">
      <a class="brand" href=${link()}><img src="/console/icon.svg" alt="" width="24" height="24" />${t("app.name")}</a>
      <nav aria-label=${t("app.navigation")}>
        ${open.map(
          (name) =>
            html`<a key=${name} href=${link(name)} aria-current=${here === name ? "page" : undefined}>${t(`nav.${name}`)}</a>`,
        )}
      </nav>
      ${session.demo && html`<span class="badge demo-badge" title=${t("app.demo")}>${t("app.demo_short")}</span>`}
      <${Account} />
    </header>
  `;
}

function Connection() {
  const [lost, setLost] = useState(!isReachable());
  useEffect(() => {
    const say = () => setLost(!isReachable());
    events.addEventListener("lost", say);
    events.addEventListener("found", say);
    return () => {
      events.removeEventListener("lost", say);
      events.removeEventListener("found", say);
    };
  }, []);
  return html`<div role="status" class="connection">${lost && html`<p class="banner">${t("app.lost")}</p>`}</div>`;
}

/** Load a view's module and show its default export. @param {{load: () => Promise<any>, route?: any}} props */
function Lazy({ load: loadView, route }) {
  const [state, setState] = useState(/** @type {{view?: any, error?: any}} */ ({}));
  const fetchView = useCallback(() => {
    setState({});
    loadView().then(
      (module) => setState({ view: module.default }),
      (error) => setState({ error }),
    );
  }, []);
  useEffect(fetchView, []);
  if (state.error) return html`<${Notice} error=${state.error} onRetry=${fetchView} />`;
  return state.view ? html`<${state.view} route=${route} />` : html`<${Loading} />`;
}

applyTheme();
watchConnection();
const root = document.getElementById("app");
if (root) render(html`<${App} />`, root);
