/** A category's score as a bar, its thresholds drawn on it. */
import { html } from "../html.js";
import { Decision } from "../parts/decision.js";
import { percent, t } from "../texts.js";

/** @param {{name: string, score: number, reviewAt?: number | null, blockAt?: number | null, decision?: string}} props without a decision: a label's score */
export function ScoreBar({ name, score, reviewAt, blockAt, decision }) {
  /** @type {[string, number | null | undefined][]} */
  const marks = [["review", reviewAt], ["block", blockAt]];
  const said = marks.filter(([, at]) => at !== null && at !== undefined).map(([kind, at]) => t(`decisions.${kind}_from`, { at: percent(Number(at)) }));
  return html`<div class="score">
    <div class="row spread"><strong class="wrap">${name}</strong><span class="row"><span class="number">${percent(score)}</span>${decision && html`<${Decision} decision=${decision} />`}</span></div>
    <div class=${`score-bar score-${decision ?? "plain"}`} aria-hidden="true" style=${{ "--score": score }}>
      ${marks.map(([kind, at]) => at !== null && at !== undefined && html`<i key=${kind} class=${`mark mark-${kind}`} style=${{ "--at": at }}></i>`)}
    </div>
    ${said.length > 0 && html`<p class="quiet small">${said.join(" · ")}</p>`}
  </div>`;
}
