/** One case: the picture, what is known of it beside it, the verdict below; all in places that do not move. */
import { html, useEffect, useState } from "../../html.js";
import { useShortcuts } from "../../parts/keys.js";
import { ago, t } from "../../texts.js";
import { boxesOf, Facts, Scores } from "./facts.js";
import { History, Similar } from "./history.js";
import { Still, useReveal } from "./still.js";
import { categoriesOf, toggled, Verdict } from "./verdict.js";
import { title } from "./work.js";

/**
 * @param {{
 *   held: import("./work.js").Held, draft: import("./work.js").Draft, settings: import("./settings.js").Settings,
 *   mayList: boolean, canUndo: boolean, onEdit: (change: Partial<import("./work.js").Draft>) => void,
 *   onDecide: (decision: "allow" | "block") => void, onSkip: () => void, onUndo: () => void,
 * }} props
 */
export function Case({ held, draft, settings, mayList, canUndo, onEdit, onDecide, onSkip, onUndo }) {
  const { item } = held;
  const [still, setStill] = useState(0);
  const [marked, setMarked] = useState(/** @type {string | null} */ (null));
  const reveal = useReveal(item.id, settings);
  useEffect(() => {
    setStill(0);
    setMarked(null);
    document.querySelector(".case-facts")?.scrollTo(0, 0);
  }, [item.id]);
  const stills = held.pictures.count;
  /** @param {number} by */
  const step = (by) => setStill((before) => Math.min(Math.max(before + by, 0), Math.max(stills - 1, 0)));
  const frames = item.image.frames_ms ?? [];
  const boxes = boxesOf(item).filter((/** @type {any} */ one) => frames[still] === undefined || one.frame_ms === frames[still]);
  const categories = categoriesOf(item);
  const off = !settings.shortcuts;
  useShortcuts([
    { keys: ["a"], text: t("decision.allow"), run: () => onDecide("allow"), disabled: off },
    { keys: ["b"], text: t("decision.block"), run: () => onDecide("block"), disabled: off },
    { keys: ["s"], text: t("review.key.skip"), run: onSkip, disabled: off },
    { keys: ["u"], text: t("review.key.undo"), run: onUndo, disabled: off },
    { keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], text: t("review.key.category"), disabled: off,
      run: ({ key }) => categories[Number(key) - 1] && onEdit({ categories: toggled(draft.categories, categories[Number(key) - 1]) }) },
    { keys: ["n"], text: t("review.key.note"), run: () => document.getElementById("review-note")?.focus(), disabled: off },
    { keys: ["o"], text: t("review.key.second"), run: () => onEdit({ secondOpinion: !draft.secondOpinion }), disabled: off },
    ...(mayList ? [{ keys: ["l"], text: t("review.key.list"), run: () => onEdit({ addToList: !draft.addToList }), disabled: off }] : []),
    { keys: ["v"], text: t("review.key.reveal"), run: () => {}, disabled: off },
    ...(stills > 1 ? [{ keys: ["ArrowLeft"], text: t("review.key.back"), run: () => step(-1) }, { keys: ["ArrowRight"], text: t("review.key.on"), run: () => step(1) }] : []),
  ]);
  const said = item.reason === "appeal" || item.reason === "second_opinion";
  return html`<article class="case" aria-labelledby="review-case">
    <header class="case-head">
      <h2 id="review-case" tabindex="-1" class="cut" title=${title(item)}>${title(item)}</h2>
      <span class=${`badge why-${item.reason}`}>${t(`review.why.${item.reason}`)}</span>
      ${item.legal_hold && html`<span class="badge badge-review">${t("review.legal_hold")}</span>`}
      ${item.withheld && html`<span class="badge badge-block">${t("review.withheld", { list: item.withheld.list })}</span>`}
      <span class="quiet">${t("review.opened", { ago: ago(item.opened_at) })}</span>
      ${stills > 1 && html`<div class="row stills"><button type="button" disabled=${still === 0} onClick=${() => step(-1)} aria-label=${t("review.key.back")}>←</button>
        <span class="number" role="status">${t("review.still", { number: still + 1, count: stills })}</span>
        <button type="button" disabled=${still === stills - 1} onClick=${() => step(1)} aria-label=${t("review.key.on")}>→</button></div>`}
    </header>
    <div class="case-picture">
      <${Still} held=${held} still=${still} settings=${settings} reveal=${reveal} marked=${marked} boxes=${boxes} />
    </div>
    <div class="case-facts" tabindex="0" role="region" aria-label=${t("review.known")}>
      ${said && html`<${History} item=${item} />`}
      <${Scores} item=${item} marked=${marked} onMark=${setMarked} />
      ${!item.withheld && html`<${Similar} item=${item} />`}
      <${Facts} item=${item} />
      ${!said && html`<${History} item=${item} />`}
    </div>
    <${Verdict} item=${item} draft=${draft} mayList=${mayList} canUndo=${canUndo}
      onEdit=${onEdit} onDecide=${onDecide} onSkip=${onSkip} onUndo=${onUndo} />
  </article>`;
}
