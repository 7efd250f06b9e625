/** Labelled sets: which there are, and pictures put into one. */
import { api } from "../api.js";
import { html, useRef, useState } from "../html.js";
import { Dialog } from "../parts/dialog.js";
import { toast } from "../parts/toast.js";
import { may, useSession } from "../session.js";
import { number, t } from "../texts.js";

const AT_ONCE = 8; // pictures in one request
const SLOW_MS = 120_000;
const PICTURE = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic)$/i;

/** @param {{sets: {data: any, error: any, again: () => void}}} props */
export function Sets({ sets }) {
  const { session } = useSession();
  const [deleting, setDeleting] = useState(/** @type {any} */ (null));
  const [adding, setAdding] = useState(/** @type {string | null} */ (null));
  const change = may(session, "manage");
  const rows = sets.data?.data ?? [];
  const remove = async () => {
    try {
      await api.del(`/v1/labelled-sets/${encodeURIComponent(deleting.name)}`);
      toast(t("policies.deleted"));
    } catch (failure) {
      toast(/** @type {any} */ (failure).detail, "error");
    }
    setDeleting(null);
    sets.again();
  };
  return html`<section class="card"><div class="view-head"><h2>${t("evaluate.sets")}</h2>${change && html`<button type="button" onClick=${() => setAdding("")}>${t("evaluate.new_set")}</button>`}</div>
    <p class="quiet">${t("evaluate.sets_text")}</p>
    ${sets.error && html`<p class="error-text">${sets.error.detail}</p>`}
    ${sets.data && rows.length === 0 && html`<p class="quiet">${t("evaluate.no_sets")}</p>`}
    ${rows.length > 0 && html`<div class="scroll"><table class="dense"><thead><tr><th scope="col">${t("status.name")}</th><th scope="col" class="number">${t("evaluate.pictures_head")}</th><th scope="col">${t("policies.labels")}</th><th scope="col"><span class="hidden">${t("policies.delete")}</span></th></tr></thead>
      <tbody>${rows.map((/** @type {any} */ set) => html`<tr key=${set.name}><th scope="row">${set.name}${set.description && html`<br /><span class="quiet small wrap">${set.description}</span>`}</th><td class="number">${number(set.images ?? 0)}</td>
        <td class="wrap">${Object.entries(set.labels ?? {}).map(([label, count]) => html`<span key=${label} class="badge">${label} ${count}</span> `)}</td>
        <td class="nowrap">${change && html`<button type="button" class="plain" onClick=${() => setAdding(set.name)}>${t("evaluate.add")}</button><button type="button" class="plain" onClick=${() => setDeleting(set)}>${t("policies.delete")}</button>`}</td></tr>`)}</tbody></table></div>`}
    <${Dialog} open=${adding !== null} title=${adding || t("evaluate.new_set")} onClose=${() => setAdding(null)}><${Upload} name=${adding} onDone=${sets.again} /><//>
    <${Dialog} open=${deleting !== null} title=${t("policies.delete_title", { name: deleting?.name ?? "" })} onClose=${() => setDeleting(null)}><div class="stack"><p>${t("evaluate.delete_text")}</p>
      <div class="row"><button type="button" class="block" onClick=${remove}>${t("policies.delete")}</button><button type="button" onClick=${() => setDeleting(null)}>${t("app.cancel")}</button></div></div><//>
  </section>`;
}

/** The folder that a file lies in, which is its label. @param {File} file */
const folderOf = (file) => file.webkitRelativePath.split("/").at(-2) ?? "";

/** @param {{name: string | null, onDone: () => void}} props */
function Upload({ name, onDone }) {
  const [title, setTitle] = useState("");
  const [label, setLabel] = useState("");
  const [files, setFiles] = useState(/** @type {{file: File, label: string}[]} */ ([]));
  const [state, setState] = useState(/** @type {{done: number, running: boolean, failures: {name: string, why: string}[]}} */ ({ done: 0, running: false, failures: [] }));
  const [error, setError] = useState("");
  const stop = useRef(/** @type {AbortController | null} */ (null));
  const set = name || title;
  const labels = files.map((one) => one.label || label);
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const one of labels) counts.set(one, (counts.get(one) ?? 0) + 1);
  const take = (/** @type {FileList | null} */ list, /** @type {(file: File) => string} */ labelled) => setFiles([...(list ?? [])].filter((file) => file.type.startsWith("image/") || PICTURE.test(file.name)).map((file) => ({ file, label: labelled(file) })));
  const upload = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setError("");
    setState({ done: 0, running: true, failures: [] });
    stop.current = new AbortController();
    const path = `/v1/labelled-sets/${encodeURIComponent(set)}`;
    try {
      if (!name) await api.put(path, { description: "" });
      for (let from = 0; from < files.length && !stop.current.signal.aborted; from += AT_ONCE) {
        const some = files.slice(from, from + AT_ONCE);
        const form = new FormData();
        for (const one of some) form.append("file", one.file);
        for (const one of some) form.append("labels", JSON.stringify([one.label || label].filter(Boolean)));
        /** @type {{name: string, why: string}[]} */
        let failed = [];
        try {
          const answer = await api.form(`${path}/images`, form, { timeoutMs: SLOW_MS, signal: stop.current.signal });
          failed = (answer.results ?? answer.data ?? []).flatMap((/** @type {any} */ one, /** @type {number} */ place) => (one.error ? [{ name: some[one.index ?? place].file.name, why: one.error.detail ?? one.error.code ?? String(one.error) }] : []));
        } catch (failure) {
          if (stop.current.signal.aborted) break;
          failed = some.map((one) => ({ name: one.file.name, why: /** @type {any} */ (failure).detail }));
        }
        setState((before) => ({ ...before, done: Math.min(files.length, from + AT_ONCE), failures: [...before.failures, ...failed] }));
      }
      toast(t("evaluate.uploaded"));
    } catch (failure) {
      setError(/** @type {any} */ (failure).detail ?? String(failure));
    }
    setState((before) => ({ ...before, running: false }));
    onDone();
  };
  return html`<form class="stack" onSubmit=${upload}>
    ${!name && html`<label>${t("status.name")}<input required pattern="[a-z0-9][a-z0-9_.\\-]{0,63}" value=${title} onInput=${(/** @type {any} */ event) => setTitle(event.target.value)} /><span class="field-hint">${t("policies.name_hint")}</span></label>`}
    <label>${t("evaluate.folder")}<input type="file" webkitdirectory multiple onChange=${(/** @type {any} */ event) => take(event.target.files, folderOf)} /><span class="field-hint">${t("evaluate.folder_hint")}</span></label>
    <label>${t("evaluate.files_of_one")}<input type="file" accept="image/*" multiple onChange=${(/** @type {any} */ event) => take(event.target.files, () => "")} /></label>
    <label>${t("evaluate.label")}<input maxlength="64" value=${label} onInput=${(/** @type {any} */ event) => setLabel(event.target.value)} /><span class="field-hint">${t("evaluate.label_hint")}</span></label>
    ${files.length > 0 && html`<p>${[...counts].map(([one, count]) => html`<span key=${one} class="badge">${one || t("evaluate.no_label")} ${count}</span> `)}</p>`}
    ${(state.running || state.done > 0) && html`<div role="status"><${Bar} done=${state.done} total=${files.length} /></div>`}
    ${state.failures.length > 0 && html`<details open><summary class="error-text">${t("evaluate.failures", { count: state.failures.length })}</summary><ul>${state.failures.slice(0, 50).map((one, place) => html`<li key=${place}><span class="mono">${one.name}</span> – ${one.why}</li>`)}</ul></details>`}
    ${error && html`<p role="alert" class="error-text">${error}</p>`}
    <div class="row"><button type="submit" class="primary" disabled=${state.running || !files.length || labels.includes("")}>${t("evaluate.upload", { count: files.length })}</button>
      ${state.running && html`<button type="button" onClick=${() => stop.current?.abort()}>${t("app.cancel")}</button>`}</div>
  </form>`;
}

/** @param {{done: number, total: number}} props */
const Bar = ({ done, total }) => html`<span class="progress"><progress aria-label=${t("status.progress")} max=${total || 1} value=${done}></progress><span class="quiet small">${done} / ${total}</span></span>`;
