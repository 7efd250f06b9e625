/** Every English text of the console. A translation replaces this file; `{name}` is filled in. */

export const texts = {
  app: {
    name: "Moderation console",
    skip: "Skip to content",
    navigation: "Sections",
    failed: "This view failed. Reload the page; if it fails again, tell your operator what you did.",
    loading: "Loading…",
    retry: "Try again",
    lost: "The connection to the gateway is lost. What you do is not saved until it is back.",
    found: "The connection is back.",
    demo: "Demo model: it understands drawings only.",
    theme: "Colors",
    theme_auto: "As the system",
    theme_light: "Light",
    theme_dark: "Dark",
    close: "Close",
    cancel: "Cancel",
    copy: "Copy",
    copied: "Copied",
    not_found: "There is no such page.",
    forbidden: "Your key has no role for this: it needs {roles}.",
    request_id: "Request {id}",
  },
  nav: {
    try: "Try",
    review: "Review",
    decisions: "Decisions",
    policies: "Policies",
    evaluate: "Evaluate",
    status: "Status",
  },
  decision: { allow: "Allow", review: "Review", block: "Block", none: "No decision" },
  signin: {
    title: "Sign in",
    key: "API key",
    key_hint: "It is exchanged for a cookie of this page and is not kept.",
    reviewer: "Your name",
    reviewer_hint: "It stands beside every verdict that you give.",
    submit: "Sign in",
    oidc: "Sign in with your organization",
    out: "Sign out",
    wrong: "This key is not known.",
    open: "No keys are configured: everybody who reaches this gateway may do everything.",
  },
  keys: { title: "Keyboard", help: "This help", close: "Close" },
};

/**
 * Return a text by its path, such as `nav.try`, with its slots filled.
 * @param {string} path
 * @param {Record<string, string | number>} [slots]
 */
export function t(path, slots = {}) {
  /** @type {any} */
  let found = texts;
  for (const part of path.split(".")) found = found?.[part];
  if (typeof found !== "string") return path;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in slots ? String(slots[name]) : whole));
}

const language = document.documentElement.lang || "en";

/** @param {number} value @param {number} [digits] */
export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** @param {number} value 0..1 */
export const percent = (value) => value.toLocaleString(language, { style: "percent", maximumFractionDigits: 1 });

/** @param {string} iso a time as the API writes it */
export const time = (iso) => new Date(iso).toLocaleString(language, { dateStyle: "medium", timeStyle: "medium" });

/** How long ago, such as “5 min ago”. @param {string} iso */
export function ago(iso) {
  const seconds = (new Date(iso).getTime() - Date.now()) / 1000;
  const format = new Intl.RelativeTimeFormat(language, { style: "narrow" });
  /** @type {[number, Intl.RelativeTimeFormatUnit][]} */
  const units = [[86_400, "day"], [3600, "hour"], [60, "minute"]];
  for (const [size, unit] of units) if (Math.abs(seconds) >= size) return format.format(Math.round(seconds / size), unit);
  return format.format(Math.round(seconds), "second");
}
