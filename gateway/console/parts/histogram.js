/** How scores are spread, with a slider for each threshold under it. */
import { html, useId } from "../html.js";
import { number, percent, t } from "../texts.js";

const WIDTH = 500;
const HEIGHT = 96;
const STEP = 0.01;

/**
 * @typedef {object} Spread
 * @property {number[]} edges one more than counts
 * @property {number[]} counts
 * @property {{threshold: number, precision: number | null, recall: number | null, flagged: number}[]} curve
 * @property {{positives: number, negatives: number}} labelled
 */

/**
 * Bars are as high as the square root of their counts, so that a few high scores are seen beside many low ones.
 * @param {{name: string, spread: Spread | null, reviewAt: number | null, blockAt: number | null, disabled?: boolean, onChange: (field: "review_at" | "block_at", value: number | null) => void}} props
 */
export function Histogram({ name, spread, reviewAt, blockAt, disabled = false, onChange }) {
  const counts = spread?.counts ?? [];
  const edges = spread?.edges ?? [];
  const most = Math.sqrt(Math.max(1, ...counts));
  const kind = (/** @type {number} */ score) => (blockAt !== null && score >= blockAt ? "block" : reviewAt !== null && score >= reviewAt ? "review" : "allow");
  return html`<div class="histogram">
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${t("policies.histogram", { name, count: counts.reduce((sum, one) => sum + one, 0) })}>
      ${counts.map((count, place) => {
        const high = count ? Math.max(2, (HEIGHT * Math.sqrt(count)) / most) : 0;
        const from = edges[place] * WIDTH;
        return html`<rect key=${place} class=${`bar-${kind((edges[place] + edges[place + 1]) / 2)}`} x=${from + 0.5} width=${Math.max(1, (edges[place + 1] - edges[place]) * WIDTH - 1)} y=${HEIGHT - high} height=${high}><title>${`${percent(edges[place])} – ${percent(edges[place + 1])}: ${number(count)}`}</title></rect>`;
      })}
      ${reviewAt !== null && html`<line class="mark-line-review" x1=${reviewAt * WIDTH} x2=${reviewAt * WIDTH} y1="0" y2=${HEIGHT} />`}
      ${blockAt !== null && html`<line class="mark-line-block" x1=${blockAt * WIDTH} x2=${blockAt * WIDTH} y1="0" y2=${HEIGHT} />`}
    </svg>
    <${Threshold} field="review_at" name=${name} value=${reviewAt} spread=${spread} disabled=${disabled} onChange=${onChange} />
    <${Threshold} field="block_at" name=${name} value=${blockAt} spread=${spread} disabled=${disabled} onChange=${onChange} />
  </div>`;
}

/** The point of a curve at a threshold: the last that is not above it. @param {Spread["curve"]} curve @param {number} at */
function pointAt(curve, at) {
  let found = null;
  for (const point of curve) if (point.threshold <= at + 1e-9) found = point;
  return found ?? curve[0] ?? null;
}

/** @param {{field: "review_at" | "block_at", name: string, value: number | null, spread: Spread | null, disabled: boolean, onChange: (field: "review_at" | "block_at", value: number | null) => void}} props */
function Threshold({ field, name, value, spread, disabled, onChange }) {
  const id = useId();
  const on = value !== null;
  const point = on && spread?.curve?.length ? pointAt(spread.curve, value) : null;
  const set = (/** @type {any} */ event) => onChange(field, event.target.value === "" ? null : Number(event.target.value));
  const labelled = (spread?.labelled?.positives ?? 0) > 0;
  return html`<div class=${`threshold threshold-${field}`}>
    <input type="range" min="0" max="1" step=${STEP} value=${value ?? 1} disabled=${disabled || !on} aria-label=${`${name}: ${t(`policies.${field}`)}`} aria-valuetext=${on ? percent(value) : t("policies.never")} onInput=${set} />
    <div class="threshold-row">
      <label class="check" for=${id}><input id=${id} type="checkbox" checked=${on} disabled=${disabled} onChange=${() => onChange(field, on ? null : 0.9)} />${t(`policies.${field}`)}</label>
      <input type="number" class="short" min="0" max="1" step="any" value=${value ?? ""} placeholder=${t("policies.never")} disabled=${disabled || !on} aria-label=${`${name}: ${t(`policies.${field}`)}, ${t("policies.number")}`} onChange=${set} />
      <span class="quiet small threshold-worth">${point && labelled && point.precision !== null ? t("policies.worth", { precision: percent(point.precision), recall: point.recall === null ? "–" : percent(point.recall) }) : ""}</span>
    </div>
  </div>`;
}
