/** Decisions over time, and how often reviewers agreed with the policy. */
import { withQuery } from "../api.js";
import { html, useState } from "../html.js";
import { Loading, Notice } from "../parts/notice.js";
import { number, percent, t } from "../texts.js";
import { Filters } from "./decisions_filters.js";
import { usePolled } from "./polled.js";

const EVERY_MS = 60_000;
const WIDTH = 960;
const HEIGHT = 220;
const PARTS = ["block", "review", "allow"];

/** @param {{filters: Record<string, string>}} props */
export function Agreement({ filters }) {
  const [bucket, setBucket] = useState("day");
  const { since, until, policy } = filters;
  const { data, error, again } = usePolled(withQuery("/v1/decisions/statistics", { since, until, policy, bucket }), EVERY_MS);
  const spans = data?.data ?? [];
  return html`
    <${Filters} filters=${filters} names=${["since", "until", "policy"]} also=${{ show: "agreement" }} />
    <section class="card">
      <div class="view-head"><h2>${t("decisions.over_time")}</h2>
        <div class="segments" role="group" aria-label=${t("decisions.bucket")}>${["hour", "day", "week"].map(
          (one) => html`<button key=${one} type="button" aria-pressed=${bucket === one} onClick=${() => setBucket(one)}>${t(`decisions.buckets.${one}`)}</button>`,
        )}</div></div>
      ${error && html`<${Notice} error=${error} onRetry=${again} />`}
      ${!data && !error && html`<${Loading} />`}
      ${data && spans.length === 0 && html`<${Notice} text=${t("decisions.none_found")} />`}
      ${spans.length > 0 && html`<${Bars} spans=${spans} /><p class="quiet small">${t("decisions.agreement_means")}</p><${Table} spans=${spans} bucket=${bucket} />`}
    </section>`;
}

/** @param {any} span */
const total = (span) => PARTS.reduce((sum, name) => sum + (span.decisions[name] ?? 0), 0);

/** Stacked bars of decisions, a line of agreement over them. @param {{spans: any[]}} props */
function Bars({ spans }) {
  const most = Math.max(1, ...spans.map(total));
  const step = WIDTH / spans.length;
  const wide = Math.min(step * 0.72, 48);
  const judged = spans.flatMap((span, place) => (span.reviewed ? [[place * step + step / 2, HEIGHT * (1 - span.agreed / span.reviewed)]] : []));
  return html`<figure class="chart">
    <figcaption class="row small">
      ${PARTS.toReversed().map((name) => html`<span key=${name} class=${`legend legend-${name}`}>${t(`decision.${name}`)}</span>`)}
      <span class="legend legend-line">${t("decisions.agreed_share")}</span></figcaption>
    <div class="chart-frame"><span class="chart-axis small quiet">${number(most)}</span><span class="chart-axis-end small quiet">${percent(1)}</span>
    <svg viewBox=${`0 -6 ${WIDTH} ${HEIGHT + 8}`} preserveAspectRatio="none" role="img" aria-label=${t("decisions.chart")}>
      ${[0, 0.25, 0.5, 0.75, 1].map((part) => html`<line key=${part} class="grid-line" x1="0" x2=${WIDTH} y1=${HEIGHT * part} y2=${HEIGHT * part} />`)}
      ${spans.map((span, place) => {
        let below = HEIGHT;
        return html`<g key=${span.from}><title>${`${new Date(span.from).toLocaleString()}: ${total(span)}`}</title>${PARTS.map((name) => {
          const high = (HEIGHT * (span.decisions[name] ?? 0)) / most;
          below -= high;
          return html`<rect key=${name} class=${`bar-${name}`} x=${place * step + (step - wide) / 2} width=${wide} y=${below} height=${high} />`;
        })}</g>`;
      })}
      ${judged.length > 1 && html`<polyline class="chart-line" points=${judged.map((point) => point.join(",")).join(" ")} />`}
      ${judged.map(([x, y]) => html`<line key=${x} class="chart-dot" x1=${x} x2=${x} y1=${y} y2=${y} />`)}
    </svg></div>
    <div class="row spread small quiet"><span>${new Date(spans[0].from).toLocaleDateString()}</span><span>${new Date(spans[spans.length - 1].from).toLocaleDateString()}</span></div>
  </figure>`;
}

/** @param {{spans: any[], bucket: string}} props */
function Table({ spans, bucket }) {
  const shown = (/** @type {string} */ iso) => (bucket === "hour" ? new Date(iso).toLocaleString() : new Date(iso).toLocaleDateString());
  return html`<div class="scroll tall" tabindex="0" role="region" aria-label=${t("decisions.over_time")}><table class="dense">
    <thead><tr><th scope="col">${t("decisions.from")}</th>${PARTS.toReversed().map((name) => html`<th key=${name} scope="col" class="number">${t(`decision.${name}`)}</th>`)}
      <th scope="col" class="number">${t("decisions.reviewed_count")}</th><th scope="col" class="number">${t("decisions.agreed")}</th><th scope="col" class="number">${t("decisions.overturned")}</th><th scope="col" class="number">${t("decisions.agreed_share")}</th></tr></thead>
    <tbody>${spans.toReversed().filter((span) => total(span)).map((span) => html`<tr key=${span.from}><th scope="row">${shown(span.from)}</th>
      ${PARTS.toReversed().map((name) => html`<td key=${name} class="number">${number(span.decisions[name] ?? 0)}</td>`)}
      <td class="number">${number(span.reviewed)}</td><td class="number">${number(span.agreed)}</td><td class="number">${number(span.overturned)}</td>
      <td class="number">${span.reviewed ? percent(span.agreed / span.reviewed) : "–"}</td></tr>`)}</tbody></table></div>`;
}
