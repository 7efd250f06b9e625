/** What a candidate would change: over recent decisions, or over pictures that are dropped in. */
import { api } from "../api.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { Decision } from "../parts/decision.js";
import { link } from "../router.js";
import { number, percent, t } from "../texts.js";
import { countChanges, DECISIONS, problemsOf, scored } from "./policy_body.js";

const SAMPLE = 2000;
const BINS = 50;
const WAIT_MS = 500;
const EXAMPLES = 8;
const SLOW_MS = 120_000;

/**
 * Recent decisions as a candidate scores them. Asked anew when what is scored changes; thresholds are counted here.
 * @param {string} name @param {any} draft @param {boolean} stored whether the policy is there to compare with
 */
export function useSample(name, draft, stored) {
  const [state, setState] = useState(/** @type {any} */ ({ rows: null, spreads: [], problem: null, hint: null, skipped: 0, source: null, loading: true }));
  const key = scored(draft);
  const latest = useRef(draft);
  latest.current = draft;
  useEffect(() => {
    if (!stored) return;
    const stop = new AbortController();
    const ask = async () => {
      const policy = latest.current;
      if (Object.keys(problemsOf(policy)).length) return;
      const path = `/v1/policies/${encodeURIComponent(name)}`;
      const options = { signal: stop.signal, timeoutMs: SLOW_MS };
      setState((/** @type {any} */ before) => ({ ...before, loading: true }));
      try {
        const sample = await api.post(`${path}/sample`, { policy, limit: SAMPLE }, options);
        setState((/** @type {any} */ before) => ({ ...before, rows: sample.rows, hint: sample.hint, skipped: sample.skipped, source: sample.source, problem: null, loading: false }));
        const spread = await api.post(`${path}/histogram`, { policy, limit: SAMPLE, bins: BINS }, options);
        setState((/** @type {any} */ before) => ({ ...before, spreads: spread.categories }));
      } catch (problem) {
        if (!stop.signal.aborted) setState((/** @type {any} */ before) => ({ ...before, problem, loading: false }));
      }
    };
    const timer = setTimeout(ask, state.rows === null ? 0 : WAIT_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [name, key, stored]);
  return state;
}

/** @param {{sample: any, rules: any[], stored: boolean}} props */
export function Preview({ sample, rules, stored }) {
  const { rows, hint, problem, loading, skipped } = sample;
  const fits = rows?.length && rows[0].scores.length === rules.length;
  const found = useMemo(() => (fits ? countChanges(rows, rules) : null), [rows, rules, fits]);
  return html`<section class="card preview" aria-label=${t("policies.preview")} aria-busy=${loading ? "true" : "false"}>
    <div class="view-head"><h2>${t("policies.preview")}</h2>${rows && html`<span class="quiet small">${t("policies.on_recent", { count: number(rows.length) })}</span>`}</div>
    ${!stored && html`<p class="quiet">${t("policies.save_first")}</p>`}
    ${stored && problem && problem.status !== 422 && problem.status !== 400 && html`<p role="alert" class="error-text">${problem.detail ?? problem.message}</p>`}
    ${stored && loading && !rows && html`<p class="quiet">${t("app.loading")}</p>`}
    ${hint && html`<p class="quiet">${hint}</p>`}
    ${found && html`<${Outcome} counts=${found.counts} changed=${found.changes.length} of=${rows.length} />
      <${Examples} changes=${found.changes} rules=${rules} />`}
    ${skipped > 0 && html`<p class="quiet small">${t("policies.skipped", { count: number(skipped) })}</p>`}
  </section>`;
}

/** Counts before and after, and from what to what. @param {{counts: Record<string, Record<string, number>>, changed: number, of: number}} props */
export function Outcome({ counts, changed, of }) {
  const before = (/** @type {string} */ name) => DECISIONS.reduce((sum, after) => sum + counts[name][after], 0);
  const after = (/** @type {string} */ name) => DECISIONS.reduce((sum, one) => sum + counts[one][name], 0);
  const moves = DECISIONS.flatMap((from) => DECISIONS.filter((to) => to !== from && counts[from][to]).map((to) => ({ from, to, count: counts[from][to] })));
  return html`<p role="status" class="changed"><strong>${changed ? t("policies.would_change", { count: number(changed), share: percent(changed / Math.max(1, of)) }) : t("policies.none_would_change")}</strong></p>
    <table class="dense outcome"><thead><tr><th scope="col"><span class="hidden">${t("decisions.decision")}</span></th><th scope="col" class="number">${t("policies.now")}</th><th scope="col" class="number">${t("policies.then")}</th><th scope="col" class="number">${t("policies.change")}</th><th scope="col"><span class="hidden">${t("policies.then")}</span></th></tr></thead>
      <tbody>${DECISIONS.map((name) => {
        const more = after(name) - before(name);
        return html`<tr key=${name} data-decision=${name}><th scope="row"><${Decision} decision=${name} /></th><td class="number">${number(before(name))}</td><td class="number"><strong>${number(after(name))}</strong></td>
          <td class="number quiet">${more > 0 ? "+" : more < 0 ? "−" : "±"}${number(Math.abs(more))}</td><td class="share-cell"><span class=${`share share-${name}`} aria-hidden="true" style=${{ "--share": after(name) / Math.max(1, of) }}></span></td></tr>`;
      })}</tbody></table>
    ${moves.length > 0 && html`<ul class="moves">${moves.map(({ from, to, count }) => html`<li key=${from + to}>${t("policies.move", { count: number(count), from: t(`decision.${from}`), to: t(`decision.${to}`) })}</li>`)}</ul>`}`;
}

/** @param {{changes: {row: any, after: string}[], rules: any[]}} props */
function Examples({ changes, rules }) {
  if (!changes.length) return null;
  return html`<h3>${t("policies.examples")}</h3><ul class="examples">${changes.slice(0, EXAMPLES).map(({ row, after }) => {
    const best = row.scores.indexOf(Math.max(...row.scores));
    return html`<li key=${row.id}><a class="wrap" href=${link("decisions", row.id)}>${row.external_id ?? row.id.slice(0, 12)}</a>
      <span class="quiet small">${rules[best]?.category} ${percent(row.scores[best])}${row.label && ` · ${t("policies.person_said", { label: t(`decision.${row.label}`) })}`}</span>
      <span class="row tight"><${Decision} decision=${row.before} /> → <${Decision} decision=${after} /></span></li>`;
  })}</ul>`;
}

/** @param {{name: string, draft: any}} props */
export function ImagesPreview({ name, draft }) {
  const [pictures, setPictures] = useState(/** @type {{name: string, url: string}[]} */ ([]));
  const [files, setFiles] = useState(/** @type {File[]} */ ([]));
  const [answer, setAnswer] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [over, setOver] = useState(false);
  useEffect(() => {
    const made = files.map((file) => ({ name: file.name, url: URL.createObjectURL(file) }));
    setPictures(made);
    return () => made.forEach(({ url }) => URL.revokeObjectURL(url));
  }, [files]);
  const key = JSON.stringify(draft);
  useEffect(() => {
    if (!files.length || Object.keys(problemsOf(draft)).length) return;
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      const form = new FormData();
      form.append("options", JSON.stringify({ policy: draft, examples: 100 }));
      for (const file of files) form.append("file", file);
      try {
        setAnswer(await api.form(`/v1/policies/${encodeURIComponent(name)}/dry-run`, form, { signal: stop.signal, timeoutMs: SLOW_MS }));
        setError(null);
      } catch (failure) {
        if (!stop.signal.aborted) setError(failure);
      }
    }, WAIT_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [files, key]);
  const take = (/** @type {FileList | null | undefined} */ list) => list?.length && setFiles([...list]);
  const counts = Object.fromEntries(DECISIONS.map((before) => [before, { allow: 0, review: 0, block: 0 }]));
  for (const one of answer?.counts ?? []) /** @type {any} */ (counts)[one.before][one.after] = one.count;
  return html`<section class=${`card drop ${over ? "drop-over" : ""}`} aria-label=${t("policies.on_pictures")}
    onDragOver=${(/** @type {DragEvent} */ event) => {
      event.preventDefault();
      setOver(true);
    }} onDragLeave=${() => setOver(false)} onDrop=${(/** @type {DragEvent} */ event) => {
      event.preventDefault();
      setOver(false);
      take(event.dataTransfer?.files);
    }}>
    <h2>${t("policies.on_pictures")}</h2>
    <label class="quiet">${t("policies.drop")}<input type="file" accept="image/*" multiple onChange=${(/** @type {any} */ event) => take(event.target.files)} /></label>
    ${error && html`<p role="alert" class="error-text">${error.detail}</p>`}
    ${answer && html`<${Outcome} counts=${counts} changed=${answer.changed} of=${answer.compared} />`}
    ${pictures.length > 0 && html`<ul class="thumbs">${pictures.slice(0, 12).map((one) => html`<li key=${one.url}><img src=${one.url} alt=${one.name} loading="lazy" /></li>`)}</ul>`}
  </section>`;
}
