/** One picture with what the gateway said about it. */
import { html, useState } from "../../html.js";
import { Decision } from "../../parts/decision.js";
import { Evidence } from "../../parts/image.js";
import { link } from "../../router.js";
import { number, percent, t } from "../../texts.js";
import { ScoreBar } from "../score_bar.js";

const LEAST = 0.05; // of a score whose box is drawn: below it nothing was seen there

/** @param {{picture: import("./ask.js").Picture, onRemove: () => void}} props */
export function Answer({ picture, onRemove }) {
  const [frame, setFrame] = useState(/** @type {number | null} */ (null));
  const { answer, state } = picture;
  const frames = [...new Set((answer?.views ?? []).map((/** @type {any} */ view) => view.frame_ms))].filter((ms) => ms !== null);
  const shown = frames.length > 1 ? frame : null;
  const heatmap = answer?.heatmap && (shown === null || answer.heatmap.frame_ms === shown) ? answer.heatmap : null;
  return html`<article class="card answer" aria-busy=${state === "waiting" ? "true" : "false"}>
    <header class="row spread nowrap-row">
      <h2 class="file-name" title=${picture.name}>${picture.name}</h2>
      <span class="row nowrap-row">${state === "done" && answer.decision && html`<${Decision} decision=${answer.decision} />`}
        <button type="button" class="plain" aria-label=${t("try.remove", { name: picture.name })} onClick=${onRemove}>✕</button></span>
    </header>
    <${Evidence} image=${picture.file ?? picture.url} alt=${picture.name} width=${answer?.image?.width} height=${answer?.image?.height}
      boxes=${answer ? boxesOf(answer, shown) : []} heatmap=${heatmap} />
    ${frames.length > 1 && html`<${Frames} frames=${frames} frame=${frame} onChange=${setFrame} />`}
    ${state === "waiting" && html`<p class="quiet" role="status">${t("try.asking")}</p>`}
    ${state === "failed" && html`<div class="problem" role="alert"><p class="error-text">${picture.error?.detail ?? picture.error?.message}</p>
      <p class="quiet small">${picture.error?.code}${picture.error?.requestId && ` · ${t("app.request_id", { id: picture.error.requestId })}`}</p></div>`}
    ${state === "done" && html`<${Scores} answer=${answer} />`}
  </article>`;
}

/** @param {{frames: number[], frame: number | null, onChange: (ms: number | null) => void}} props */
function Frames({ frames, frame, onChange }) {
  return html`<div class="segments frames" role="group" aria-label=${t("try.frames")}>
    <button type="button" aria-pressed=${frame === null ? "true" : "false"} onClick=${() => onChange(null)}>${t("try.all_frames")}</button>
    ${frames.map((ms) => html`<button key=${ms} type="button" aria-pressed=${frame === ms ? "true" : "false"} onClick=${() => onChange(ms)}>${t("try.frame_at", { at: number(ms / 1000, 1) })}</button>`)}
  </div>`;
}

/** @param {{answer: any}} props */
function Scores({ answer }) {
  const { image } = answer;
  return html`
    ${answer.warnings?.length > 0 && html`<ul class="warnings">${answer.warnings.map((/** @type {string} */ warning) => html`<li key=${warning}>${warning}</li>`)}</ul>`}
    ${answer.categories && html`<${Categories} categories=${answer.categories} />`}
    ${answer.scores && html`<div class="stack">${answer.scores.map((/** @type {any} */ one) => html`<${ScoreBar} key=${one.label} name=${one.label} score=${one.score} />`)}</div>`}
    ${answer.none_of_these && html`<p class="quiet">${t("try.none_of_these")}</p>`}
    ${answer.shadow && html`<section class="stack shadow-policy">
      <h3 class="row spread"><span>${t("try.shadow_says", { name: `${answer.shadow.policy.name}@${answer.shadow.policy.version}` })}</span><${Decision} decision=${answer.shadow.decision} /></h3>
      <${Categories} categories=${answer.shadow.categories} />
    </section>`}
    <p class="quiet small row">
      <span>${image.width} × ${image.height} ${image.format.toUpperCase()}</span>
      ${image.frames > 1 && html`<span>${t("try.frames_seen", { seen: image.frames_analyzed, all: image.frames })}</span>`}
      ${answer.policy && html`<span class="wrap">${answer.policy.name}@${answer.policy.version}</span>`}
      ${answer.decision_id && html`<a href=${link("decisions", answer.decision_id)}>${t("try.open_decision")}</a>`}
    </p>`;
}

/** @param {{categories: any[]}} props */
const Categories = ({ categories }) => html`<div class="stack">${categories.map((one) => html`<${ScoreBar} key=${one.category}
  name=${one.category} score=${one.score} decision=${one.decision} reviewAt=${one.review_at} blockAt=${one.block_at} />`)}</div>`;

/**
 * Return the boxes to draw: of a policy its evidence; of labels each view with its best label.
 * @param {any} answer @param {number | null} frame only of this frame
 * @returns {import("../../parts/image.js").Box[]}
 */
export function boxesOf(answer, frame) {
  const here = (/** @type {any} */ seen) => frame === null || seen.frame_ms === frame;
  const say = (/** @type {any} */ seen) => (seen.view === "full" || seen.view === "center" ? "" : ` · ${seen.view}`);
  if (answer.categories)
    return answer.categories.flatMap((/** @type {any} */ category) => category.evidence.filter((/** @type {any} */ seen) => seen.box && seen.score >= LEAST && here(seen))
      .map((/** @type {any} */ seen) => ({ box: seen.box, label: `${category.category}: ${seen.label}${say(seen)}`, score: seen.score, kind: category.decision })));
  return (answer.views ?? []).filter(here).filter((/** @type {any} */ view) => view.scores?.length).map((/** @type {any} */ view) => {
    const best = view.scores.reduce((/** @type {any} */ a, /** @type {any} */ b) => (b.score > a.score ? b : a));
    return { box: view.box, label: `${best.label} · ${view.view}`, score: best.score };
  });
}

/** Say in one line what came out, for a live region. @param {import("./ask.js").Picture[]} pictures */
export function summary(pictures) {
  const done = pictures.filter((one) => one.state !== "waiting");
  if (pictures.length === 0 || done.length < pictures.length) return "";
  const failed = done.filter((one) => one.state === "failed").length;
  const best = done.length === 1 && done[0].answer?.scores?.[0];
  if (best) return t("try.said_label", { label: best.label, score: percent(best.score) });
  return t("try.said", { count: done.length, failed });
}
