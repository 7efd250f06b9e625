/** Try: drop pictures and see what the gateway says of them. */
import { api } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Snippets } from "../parts/snippets.js";
import { Tour } from "../parts/tour.js";
import { may, useSession } from "../session.js";
import { t } from "../texts.js";
import { Answer, summary } from "./try/answer.js";
import { ask, complete, request } from "./try/ask.js";
import { QuestionForm } from "./try/question.js";

const MOST = 32; // pictures shown at a time

/** @type {import("./try/ask.js").Question} */
const FIRST = { by: "policy", policy: "default", shadow: "", classifier: "", labels: "", mode: "softmax", views: "full", heatmap: true };

let lastId = 0;

/** @param {File} file @returns {import("./try/ask.js").Picture} */
const fromFile = (file) => ({ id: ++lastId, name: file.name || t("try.pasted"), file, url: null, state: "waiting" });

/** @param {string} url @returns {import("./try/ask.js").Picture} */
const fromUrl = (url) => ({ id: ++lastId, name: url, file: null, url, state: "waiting" });

/** @param {string} path @returns {Promise<string[]>} */
const names = async (path) => (await api.get(path)).data.map((/** @type {any} */ one) => one.name);

export default function Try() {
  const { session } = useSession();
  const [question, setQuestion] = useState(FIRST);
  const [pictures, setPictures] = useState(/** @type {import("./try/ask.js").Picture[]} */ ([]));
  const [known, setKnown] = useState({ policies: ["default"], classifiers: /** @type {string[]} */ ([]) });
  const [over, setOver] = useState(false);
  const [url, setUrl] = useState("");
  const asking = useRef(new AbortController());
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));

  useEffect(() => {
    if (may(session, "read", "manage", "infer"))
      Promise.all([names("/v1/policies"), names("/v1/classifiers")]).then(
        ([policies, classifiers]) => {
          setKnown({ policies, classifiers });
          setQuestion((before) => ({ ...before, classifier: before.classifier || classifiers[0] || "", policy: policies.includes(before.policy) ? before.policy : policies[0] ?? "" }));
        },
        () => {}, // a key that may not list them still has the default policy and labels
      );
    return () => asking.current.abort();
  }, []);

  const tell = (/** @type {number} */ id, /** @type {any} */ outcome) => setPictures((before) => before.map((one) => (one.id === id ? { ...one, ...outcome } : one)));
  const add = (/** @type {import("./try/ask.js").Picture[]} */ added) => {
    if (added.length === 0) return;
    setPictures((before) => [...added, ...before].slice(0, MOST));
    if (complete(question)) void ask(added, question, asking.current.signal, tell);
  };
  const again = () => {
    asking.current.abort();
    asking.current = new AbortController();
    const fresh = pictures.map((one) => ({ ...one, state: /** @type {const} */ ("waiting"), answer: undefined, error: undefined }));
    setPictures(fresh);
    void ask(fresh, question, asking.current.signal, tell);
  };
  const take = (/** @type {FileList | null | undefined} */ files) => add([...(files ?? [])].slice(0, MOST).map(fromFile));
  const addRef = useRef(take);
  addRef.current = take;
  useEffect(() => {
    const paste = (/** @type {ClipboardEvent} */ event) => {
      if (event.clipboardData?.files.length) addRef.current(event.clipboardData.files);
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  // A drop beside the zone must not make the browser leave the page for the picture.
  const drag = {
    onDragOver: (/** @type {DragEvent} */ event) => { event.preventDefault(); setOver(true); },
    onDragLeave: () => setOver(false),
    onDrop: (/** @type {DragEvent} */ event) => { event.preventDefault(); setOver(false); take(event.dataTransfer?.files); },
  };
  const submitUrl = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (url.trim()) add([fromUrl(url.trim())]);
    setUrl("");
  };
  const answers = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    // On a phone the answers stand below the question; whoever added a picture wants to see them.
    const below = (answers.current?.getBoundingClientRect().top ?? 0) > innerHeight / 2;
    if (pictures.length > 0 && below) answers.current?.scrollIntoView();
  }, [pictures[0]?.id, pictures[0]?.state]);
  const ready = complete(question);
  const first = pictures[0];
  return html`<div class="stack wide-stack try" ...${drag}>
    <div class="view-head"><div><h1>${t("nav.try")}</h1><p class="quiet lead">${t("try.lead")}</p></div>
      ${pictures.length > 0 && html`<div class="row"><button type="button" onClick=${() => setPictures([])}>${t("try.clear")}</button>
        <button type="button" class="primary" disabled=${!ready} onClick=${again}>${t("try.again")}</button></div>`}</div>
    <div class="try-columns">
      <div class="stack wide-stack">
        <section class="card" aria-label=${t("try.question")}>
          <${QuestionForm} question=${question} policies=${known.policies} classifiers=${known.classifiers} onChange=${(/** @type {any} */ part) => setQuestion({ ...question, ...part })} />
        </section>
        <section class=${`card drop ${over ? "drop-over" : ""}`} aria-label=${t("try.pictures")}>
          <div class="drop-zone"><span class="drop-sign" aria-hidden="true">⇣</span><strong>${t("try.drop")}</strong><span class="quiet small">${t("try.drop_hint")}</span>
            <button type="button" onClick=${() => chooser.current?.click()}>${t("try.choose")}</button>
            <input ref=${chooser} class="hidden" tabindex="-1" type="file" multiple aria-label=${t("try.choose")} onChange=${(/** @type {any} */ event) => { take(event.target.files); event.target.value = ""; }} /></div>
          <form class="link-form" onSubmit=${submitUrl}><label class="hidden" for="try-url">${t("try.url")}</label>
            <input id="try-url" type="url" placeholder=${t("try.url_placeholder")} value=${url} onInput=${(/** @type {any} */ event) => setUrl(event.target.value)} /><button>${t("try.url_add")}</button></form>
        </section>
        <details class="card"><summary>${t("try.same_call")}</summary><div class="inner">
          <${Snippets} call=${{ ...request(question), file: first?.file ? first.name : "picture.jpg", url: first?.url ?? "" }} /></div></details>
      </div>
      <section ref=${answers} class="answers" aria-label=${t("try.answers")}>
        <p class="hidden" role="status">${summary(pictures)}</p>
        ${pictures.length === 0
          ? html`<div class="card empty"><p>${t("try.empty")}</p>${session.demo && may(session, "infer") && may(session, "manage") && html`<${Tour} />`}</div>`
          : pictures.map((picture) => html`<${Answer} key=${picture.id} picture=${picture} onRemove=${() => setPictures(pictures.filter((one) => one !== picture))} />`)}
      </section>
    </div>
  </div>`;
}
