/** A policy or classifier that is edited: what is stored, the draft, saving it, and what others saved meanwhile. */
import { send, Problem } from "../api.js";
import { html, useCallback, useEffect, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";
import { Diff } from "../parts/diff.js";
import { toast } from "../parts/toast.js";
import { toYaml } from "../parts/yaml.js";
import { t } from "../texts.js";

/**
 * Ask, and return the answer's JSON with its ETag.
 * @param {string} method @param {string} path @param {{body?: any, headers?: Record<string, string>}} [options]
 * @returns {Promise<{json: any, etag: string | null}>}
 * @throws {Problem}
 */
async function withEtag(method, path, options) {
  const answer = await send(method, path, options);
  const json = await answer.json().catch(() => null);
  if (!answer.ok) throw new Problem(answer.status, json?.code ?? "error", json?.detail ?? `HTTP ${answer.status}`, answer.headers.get("X-Request-ID") ?? "");
  return { json, etag: answer.headers.get("ETag") };
}

/**
 * @param {"policies" | "classifiers"} kind
 * @param {string} name
 * @param {number | null} version to begin from; null: what is in force
 * @param {(shown: any) => any} bodyOf
 * @param {any} empty body of a new one
 */
export function useStored(kind, name, version, bodyOf, empty) {
  const path = `/v1/${kind}/${encodeURIComponent(name)}`;
  const [state, setState] = useState(/** @type {any} */ ({ loading: true, error: null, stored: null, etag: null, body: null }));
  const [draft, setDraft] = useState(/** @type {any} */ (null));
  const [conflict, setConflict] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);

  const load = useCallback(async () => {
    try {
      const { json, etag } = await withEtag("GET", path);
      const from = version && version !== json.version ? (await withEtag("GET", `${path}?version=${version}`)).json : json;
      const body = bodyOf(from);
      setState({ loading: false, error: null, stored: json, from, etag, body });
      setDraft(structuredClone(body));
    } catch (error) {
      if (error instanceof Problem && error.status === 404 && !version) {
        setState({ loading: false, error: null, stored: null, from: null, etag: null, body: empty });
        setDraft(structuredClone(empty));
      } else setState((/** @type {any} */ before) => ({ ...before, loading: false, error }));
    }
  }, [path, version]);
  useEffect(() => void load(), [load]);

  const dirty = draft !== null && JSON.stringify(draft) !== JSON.stringify(state.body);

  /** @param {boolean} activate @param {string | null} [etag] of what may be replaced */
  const save = async (activate, etag = state.etag) => {
    setBusy(true);
    setProblem(null);
    try {
      const saved = await withEtag("PUT", `${path}${activate ? "" : "?activate=false"}`, { body: draft, headers: etag ? { "If-Match": etag } : { "If-None-Match": "*" } });
      setConflict(null);
      toast(t(activate ? "policies.in_force" : "policies.saved_draft", { version: saved.json.version }));
      const current = await withEtag("GET", path);
      const body = bodyOf(saved.json);
      setState({ loading: false, error: null, stored: current.json, from: saved.json, etag: current.etag, body });
      setDraft(structuredClone(body));
      return saved.json;
    } catch (error) {
      if (error instanceof Problem && error.status === 412) {
        const theirs = await withEtag("GET", path).catch(() => null);
        setConflict({ activate, theirs: theirs?.json ?? null, etag: theirs?.etag ?? null });
      } else setProblem(error);
      return null;
    } finally {
      setBusy(false);
    }
  };
  const reset = () => setDraft(structuredClone(state.body));
  const conflictDialog = html`<${Dialog} open=${conflict !== null} title=${t("policies.conflict")} onClose=${() => setConflict(null)}>
    ${conflict && html`<div class="stack"><p>${t("policies.conflict_text", { version: conflict.theirs?.version ?? "–" })}</p>
      <${Diff} label=${t("policies.conflict")} before=${conflict.theirs ? toYaml(bodyOf(conflict.theirs)) : ""} after=${toYaml(draft)} />
      <div class="row"><button type="button" class="primary" onClick=${() => {
        setConflict(null);
        void load();
      }}>${t("policies.take_theirs")}</button>
      <button type="button" onClick=${() => void save(conflict.activate, conflict.etag)}>${t("policies.save_mine")}</button>
      <button type="button" class="plain" onClick=${() => setConflict(null)}>${t("app.cancel")}</button></div></div>`}
  <//>`;
  return { ...state, path, draft, setDraft, dirty, save, reset, load, busy, problem, conflictDialog };
}
