/** What a policy's body holds, what is wrong with one, and what its thresholds decide. No requests, no elements. */

export const FIELDS = ["description", "views", "rules", "attributes", "openai_categories", "review_on", "audit_share", "tuned_on", "carried_from"];
export const VIEWS = ["center", "full", "tiles"];
export const DECISIONS = ["allow", "review", "block"];
const MOST_RULES = 200;
const MOST_CATEGORY = 64;

/** A policy as the API shows it, without what the service adds. @param {any} shown */
export function bodyOf(shown) {
  return Object.fromEntries(FIELDS.flatMap((name) => (name in shown && shown[name] !== null ? [[name, structuredClone(shown[name])]] : [])));
}

/** A body without its thresholds: what decides whether scores have to be asked for again. @param {any} body */
export function scored(body) {
  return JSON.stringify([body.views, (body.rules ?? []).map((/** @type {any} */ { review_at: _review, block_at: _block, ...rest }) => rest)]);
}

/**
 * What is wrong, by the field's path, in the words of the API.
 * @param {any} body
 * @returns {Record<string, string>}
 */
export function problemsOf(body) {
  /** @type {Record<string, string>} */
  const found = {};
  const rules = Array.isArray(body.rules) ? body.rules : [];
  if (!rules.length) found.rules = "needs at least 1 item(s)";
  if (rules.length > MOST_RULES) found.rules = `takes at most ${MOST_RULES} item(s)`;
  rules.forEach((/** @type {any} */ rule, /** @type {number} */ place) => {
    const at = `rules.${place}`;
    if (!rule.category) found[`${at}.category`] = "must not be empty";
    else if (rule.category.length > MOST_CATEGORY) found[`${at}.category`] = `takes at most ${MOST_CATEGORY} characters`;
    else if (rule.category.startsWith("list:")) found[at] = "a category that begins with list: is a list of known images";
    if (!rule.classifier) found[`${at}.classifier`] = "must be a name in lower case, or name@version";
    if (!rule.labels?.length) found[`${at}.labels`] = "needs at least 1 item(s)";
    const { review_at: review = null, block_at: block = null } = rule;
    for (const [name, value] of Object.entries({ review_at: review, block_at: block })) {
      if (value === null) continue;
      if (typeof value !== "number" || Number.isNaN(value)) found[`${at}.${name}`] = "must be a number";
      else if (value < 0) found[`${at}.${name}`] = "must be at least 0";
      else if (value > 1) found[`${at}.${name}`] = "must be at most 1";
    }
    if (review === null && block === null) found[at] = "a rule needs review_at, block_at or both";
    else if (review !== null && block !== null && review > block) found[at] = "review_at must not be above block_at";
  });
  if (typeof body.audit_share === "number" && (body.audit_share < 0 || body.audit_share > 1)) found.audit_share = body.audit_share < 0 ? "must be at least 0" : "must be at most 1";
  return found;
}

/**
 * The fields that a 422 names, and what it says of each; what names none stands under "".
 * @param {string} detail
 * @returns {Record<string, string>}
 */
export function problemsIn(detail) {
  /** @type {Record<string, string>} */
  const found = {};
  const rest = detail.replace(/Field “([^”]*)” (.*?)\.(?= Field “| And \d+ more|$)/gs, (_whole, /** @type {string} */ path, /** @type {string} */ said) => {
    found[path === "body" ? "" : path.replace(/^policy\./, "")] = said;
    return "";
  }).trim();
  if (rest) found[""] = rest;
  return found;
}

/**
 * The strictest decision of all rules.
 * @param {number[]} scores one a rule
 * @param {{review_at?: number | null, block_at?: number | null}[]} rules
 * @param {boolean} warned whether a warning turns allow into review
 */
export function decide(scores, rules, warned = false) {
  let found = warned ? 1 : 0;
  for (let place = 0; place < rules.length && found < 2; place++) {
    const { review_at: review, block_at: block } = rules[place];
    if (typeof block === "number" && scores[place] >= block) found = 2;
    else if (typeof review === "number" && scores[place] >= review) found = Math.max(found, 1);
  }
  return DECISIONS[found];
}

/**
 * Count a sample by what was decided and what would be.
 * @param {any[]} rows as /sample answers them
 * @param {any[]} rules
 */
export function countChanges(rows, rules) {
  /** @type {Record<string, Record<string, number>>} */
  const counts = Object.fromEntries(DECISIONS.map((before) => [before, { allow: 0, review: 0, block: 0 }]));
  /** @type {{row: any, after: string}[]} */
  const changes = [];
  for (const row of rows) {
    const after = decide(row.scores, rules, row.warned);
    counts[row.before][after] += 1;
    if (after !== row.before) changes.push({ row, after });
  }
  return { counts, changes };
}
