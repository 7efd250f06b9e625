/** The demo's tour: a button that fills the queue with drawings. */
import { api } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { go } from "../router.js";
import { t } from "../texts.js";
import { toast } from "./toast.js";

const POLICY = "tour";
const FOLDER = "/console/demo";
const SIDE_BY_SIDE = 3; // requests at a time

/** Review begins low, so that many drawings wait for a person. @param {any} rule */
const eager = (rule) => ({ ...rule, review_at: 0.2, block_at: null });

/** Save the policy of the tour: the default one, eager to ask people. */
async function savePolicy() {
  const { data } = await api.get("/v1/policies");
  if (data.some((/** @type {any} */ one) => one.name === POLICY)) return;
  const { views, rules } = await api.get("/v1/policies/default");
  await api.put(`/v1/policies/${POLICY}`, { description: t("tour.policy"), views, rules: rules.map(eager), audit_share: 0.1 });
}

/** @param {string} name @param {AbortSignal} signal */
async function moderate(name, signal) {
  const form = new FormData();
  form.append("file", await (await fetch(`${FOLDER}/${name}.webp`, { signal })).blob(), `${name}.webp`);
  form.append("options", JSON.stringify({ policy: POLICY }));
  form.append("external_id", name);
  await api.form("/v1/moderate", form, { signal });
}

/** @param {{onDone?: () => void}} props called when the queue is filled; without it, Review is opened */
export function Tour({ onDone = () => go("review") }) {
  const [progress, setProgress] = useState(/** @type {{done: number, total: number} | null} */ (null));
  const ending = useRef(new AbortController());
  useEffect(() => () => ending.current.abort(), []);
  const fill = async () => {
    const { signal } = ending.current;
    let failed = 0;
    try {
      setProgress({ done: 0, total: 1 });
      await savePolicy();
      const drawings = /** @type {string[]} */ (await (await fetch(`${FOLDER}/drawings.json`, { signal })).json());
      const left = [...drawings];
      const send = async () => {
        for (let name = left.shift(); name; name = left.shift()) {
          await moderate(name, signal).catch((error) => {
            if (signal.aborted || ++failed > 3) throw error;
          });
          setProgress({ done: drawings.length - left.length, total: drawings.length });
        }
      };
      await Promise.all(Array.from({ length: SIDE_BY_SIDE }, send));
      toast(t("tour.filled", { count: drawings.length - failed }));
      onDone();
    } catch (error) {
      if (!signal.aborted) toast(/** @type {Error} */ (error).message, "error");
    }
    if (!signal.aborted) setProgress(null);
  };
  return html`<div class="stack tour"><button type="button" class="primary" disabled=${progress !== null} onClick=${fill}>${t("tour.fill")}</button>
    <p class="quiet small">${t("tour.hint")}</p>
    ${progress && html`<label class="progress">${t("tour.progress", progress)}<progress max=${progress.total} value=${progress.done}></progress></label>`}</div>`;
}
