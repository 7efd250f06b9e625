/** Two texts line by line: what went, what came, what stayed. */
import { html, useMemo } from "../html.js";
import { t } from "../texts.js";

const AROUND = 3; // unchanged lines that are shown beside a change

/**
 * The longest common subsequence of lines.
 * @param {string[]} before @param {string[]} after
 * @returns {{kind: "same" | "gone" | "new", text: string}[]}
 */
export function diffLines(before, after) {
  const wide = after.length + 1;
  const lengths = new Uint32Array((before.length + 1) * wide);
  for (let i = before.length - 1; i >= 0; i--)
    for (let j = after.length - 1; j >= 0; j--)
      lengths[i * wide + j] = before[i] === after[j] ? lengths[(i + 1) * wide + j + 1] + 1 : Math.max(lengths[(i + 1) * wide + j], lengths[i * wide + j + 1]);
  /** @type {{kind: "same" | "gone" | "new", text: string}[]} */
  const lines = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) lines.push({ kind: "same", text: after[(i++, j++)] });
    else if (i < before.length && (j === after.length || lengths[(i + 1) * wide + j] >= lengths[i * wide + j + 1])) lines.push({ kind: "gone", text: before[i++] });
    else lines.push({ kind: "new", text: after[j++] });
  }
  return lines;
}

const SIGNS = { same: " ", gone: "−", new: "+" };

/** @param {{before: string, after: string, label: string}} props */
export function Diff({ before, after, label }) {
  const lines = useMemo(() => diffLines(before.trimEnd().split("\n"), after.trimEnd().split("\n")), [before, after]);
  const near = lines.map((_, place) => lines.slice(Math.max(0, place - AROUND), place + AROUND + 1).some((line) => line.kind !== "same"));
  if (!near.includes(true)) return html`<p class="quiet">${t("policies.no_difference")}</p>`;
  return html`<div class="scroll diff" tabindex="0" role="region" aria-label=${label}><table><tbody>${lines.map((line, place) =>
    near[place]
      ? html`<tr key=${place} class=${`diff-${line.kind}`}><td class="diff-sign">${SIGNS[line.kind]}${line.kind !== "same" && html`<span class="hidden">${t(`policies.diff_${line.kind}`)}</span>`}</td><td><code>${line.text}</code></td></tr>`
      : (place === 0 || near[place - 1]) && html`<tr key=${place} class="diff-gap"><td></td><td>…</td></tr>`,
  )}</tbody></table></div>`;
}
