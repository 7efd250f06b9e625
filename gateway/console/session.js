/** Who uses the page, and what they may do. */
import { api, Problem } from "./api.js";
import { createContext, useContext } from "./html.js";

/**
 * @typedef {object} Session
 * @property {boolean} open no keys are configured
 * @property {boolean} signed_in
 * @property {string | null} name of the key
 * @property {string | null} reviewer
 * @property {string[]} roles
 * @property {string | null} expires_at
 * @property {boolean} demo
 * @property {boolean} oidc
 * @property {string} version
 * @property {{review_images: string, vectors: boolean, webhooks: boolean, jobs: boolean, log: boolean}} features
 */

const REVIEWER = "console.reviewer";

/** @type {import("./vendor/preact.js").Context<{session: Session, reload: () => Promise<void>}>} */
export const SessionContext = createContext(/** @type {any} */ (null));

export const useSession = () => useContext(SessionContext);

/** @returns {Promise<Session>} */
export async function load() {
  const session = await api.get("/v1/session");
  // An open gateway has no sessions to keep a name in.
  return session.open ? { ...session, reviewer: session.reviewer ?? localStorage.getItem(REVIEWER) } : session;
}

/** @param {Session} session @param {string} name */
export async function setReviewer(session, name) {
  if (session.open) localStorage.setItem(REVIEWER, name);
  else await api.patch("/v1/session", { reviewer: name });
}

/** @param {string} key @param {string} reviewer */
export async function signIn(key, reviewer) {
  await api.post("/v1/session", { key, ...(reviewer ? { reviewer } : {}) });
}

export async function signOut() {
  try {
    await api.del("/v1/session");
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) throw error;
  }
}

/** Whether one of these roles is there. @param {Session} session @param {string[]} roles */
export const may = (session, ...roles) => roles.some((role) => session.roles.includes(role));
