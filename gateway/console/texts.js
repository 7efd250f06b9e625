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
  review: {
    queue: "Queue",
    order: "Order",
    orders: { oldest: "Oldest first", riskiest: "Riskiest first", uncertain: "Most uncertain first" },
    filters: "Filters",
    filters_on: "Filters ({count})",
    filters_hint: "The case on the screen stays; the next ones are chosen so.",
    filter: { policy: "Policy", category: "Category", key: "API key", reason: "Why it waits" },
    any: "Any",
    apply: "Apply",
    clear: "Clear",
    why: { policy: "Policy", audit: "Audit sample", appeal: "Appeal", second_opinion: "Second opinion" },
    count: { waiting: "waiting", claimed: "in work", appeals: "appeals", oldest: "oldest {ago}" },
    session: "You hold {held}, decided {cases} in {minutes} min",
    pause: "Pause",
    resume: "Go on",
    paused: "Paused. Nobody waits for you: your cases went back to the queue.",
    who: "Your name",
    who_hint: "It stands beside every verdict that you give.",
    begin: "Begin",
    no_log: "This gateway keeps no decisions (DECISION_LOG is off), so none can wait for review.",
    empty: "The queue is empty",
    empty_hint: "New cases appear here by themselves.",
    empty_filtered: "Nothing that your filters leave waits for you. New cases appear here by themselves.",
    tour: "Fill the queue with drawings",
    tour_failed: "The drawings could not be loaded.",
    connection_lost: "The connection to the gateway is lost. Verdicts that wait to be sent: {count}. They are kept in this tab and sent when it is back.",
    unsent: "Not sent yet: {count}",
    send_now: "Send now",
    refused: "Not taken: {title}, {decision}",
    dismiss: "Dismiss",
    scores: "Scores and evidence",
    no_categories: "The policy saw nothing: this is a random sample of what it allowed.",
    on_list: "on list {list}",
    from_review: "review from {at}",
    from_block: "block from {at}",
    facts: "Case",
    fact: {
      policy: "Policy", shadow: "Shadow says", outcome: "Holds now", at: "Decided", key: "API key", external_id: "External id",
      sha256: "SHA-256", pdq: "PDQ", decision: "Decision",
    },
    history: "History",
    no_history: "Nobody has said anything about it yet.",
    kind: { verdict: "Verdict", appeal: "Appeal", undo: "Taken back" },
    somebody: "somebody",
    similar: "Similar earlier decisions",
    no_similar: "None is known.",
    by_person: "a person",
    by_policy: "the policy",
    known: "What is known of the case",
    verdict: "Your verdict",
    categories: "Categories",
    reason: "Reason",
    reasons: {
      policy: "As the policy says", context: "Harmless in its context", art: "Art or education", news: "News or documentation",
      mistaken: "The model is mistaken", unclear: "The policy is unclear here",
    },
    note: "Note",
    skip: "Skip",
    undo: "Undo",
    second_opinion: "Second opinion",
    add_to_list: "Add to list",
    legal_hold: "Legal hold",
    withheld: "Withheld: list {list}",
    opened: "waits since {ago}",
    still: "Still {number} of {count}",
    image: {
      alt: "The picture of this case, hidden until you ask for it",
      hold: "Hold Space or press here to see",
      click: "Press V or click to see",
      withheld: "This picture is withheld",
      withheld_hint: "It matches a list of material that is never stored or shown.",
      no_procedure: "Your operator has written no procedure (REVIEW_WITHHELD_PROCEDURE). Ask before you decide.",
      gone: "The picture is gone",
      gone_hint: "It was deleted or has expired. What is known of it is still here.",
      none: "No picture is kept",
      none_hint: "This gateway keeps no pictures for review. Find it by its external id where you keep yours.",
      failed: "The picture could not be loaded",
      failed_hint: "It may be there when you try again.",
    },
    key: {
      skip: "Skip: leave it to others", undo: "Undo your latest verdict", category: "Toggle a category", note: "Write a note (Escape leaves it)",
      second: "Ask for a second opinion with the verdict", list: "Put the picture on a hash list with the verdict",
      reveal: "Hold to see the picture (Space too)", back: "Still before", on: "Next still",
    },
    said: {
      allow: "Allowed: {title}.", block: "Blocked: {title}.", second: "A second opinion is asked for: {title}.",
      skipped: "Skipped: {title}.", undone: "Taken back: {title}.", lost: "Somebody else has this case by now: {title}.",
      not_sent_yet: "Your verdict is not sent yet; it can be taken back when it is.",
      still_blocked: "{title} is allowed, but the list {list} still blocks it.",
    },
    settings: {
      title: "Settings", blur: "Blur pictures until I ask", grey: "Show pictures in grey until I ask", boxes: "Draw evidence on the picture",
      shortcuts: "Single-key shortcuts", reveal: "Show the picture", reveal_hold: "While I hold a key or the pointer",
      reveal_click: "By a click or key, until the next case", break_after: "Remind me of a break after (minutes)",
      never: "Nothing plays by itself here, and nothing makes a sound. These settings stay in this browser.",
    },
    break: {
      title: "Time for a break", text: "You have worked for {minutes} minutes and decided {cases} cases. Look away from the screen for a while.",
      take: "Take a break", later: "{minutes} more minutes",
    },
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
