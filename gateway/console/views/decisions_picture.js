/** The picture of a decision, where one may be seen: veiled until it is asked for, with the evidence drawn on it. */
import { api } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { Evidence } from "../parts/image.js";
import { may, useSession } from "../session.js";
import { t } from "../texts.js";
import { Pictures } from "./review/pictures.js";

/** @typedef {{url: string, width: number, height: number}} Shown */

/** @param {{decision: any}} props */
export function Picture({ decision }) {
  const { session } = useSession();
  const [item, setItem] = useState(/** @type {any} */ (null));
  const [open, setOpen] = useState(false);
  const [shown, setShown] = useState(/** @type {Shown | "gone" | null} */ (null));
  const state = item?.image.state;
  const kept = state === "kept" && may(session, "review");
  useEffect(() => {
    if (may(session, "review", "read")) api.get(`/v1/reviews/${encodeURIComponent(decision.id)}`).then(setItem, () => {});
  }, [decision.id]);
  // A kept picture is fetched only when somebody asks: each view of one is a row of the audit.
  const wanted = state === "linked" || (kept && open);
  useEffect(() => {
    if (!wanted) return undefined;
    const pictures = new Pictures(item, session.reviewer);
    let left = false;
    const show = async () => {
      const loaded = await pictures.get(0);
      if (loaded.state !== "ready") return "gone";
      const image = new Image();
      image.referrerPolicy = "no-referrer";
      image.src = loaded.url;
      await image.decode();
      const { width, height } = item.image.width ? item.image : { width: image.naturalWidth, height: image.naturalHeight };
      return { url: loaded.url, width, height };
    };
    show().catch(() => /** @type {"gone"} */ ("gone")).then((found) => left || setShown(found));
    return () => {
      left = true;
      setShown(null);
      void pictures.close();
    };
  }, [wanted, item]);
  if (state === "withheld" || state === "deleted") return html`<${Card}><p class="quiet">${t(state === "withheld" ? "review.image.withheld_hint" : "review.image.gone_hint")}</p><//>`;
  if (!kept && state !== "linked") return null;
  return html`<${Card} button=${shown === "gone" ? null : html`<button type="button" aria-pressed=${open} onClick=${() => setOpen(!open)}>${t(open ? "decisions.hide_picture" : "decisions.show_picture")}</button>`}>
    ${!wanted && html`<p class="quiet small">${t("decisions.noted")}</p>`}
    ${wanted && !shown && html`<p class="quiet">${t("app.loading")}</p>`}
    ${shown === "gone" && html`<p class="quiet">${t("review.image.gone")}</p>`}
    ${shown && shown !== "gone" && html`<div class=${open ? "" : "veiled"}><${Evidence} image=${shown.url} alt=${t("decisions.picture_of", { name: decision.external_id ?? decision.id })} width=${shown.width} height=${shown.height} boxes=${boxesOf(item)} /></div>`}
  <//>`;
}

/** @param {{button?: any, children?: any}} props */
const Card = ({ button, children }) => html`<section class="card" aria-labelledby="picture"><div class="view-head"><h2 id="picture">${t("decisions.picture")}</h2>${button}</div>${children}</section>`;

/** What was seen in the first still, of the categories that fired. @param {any} item the case @returns {import("../parts/image.js").Box[]} */
function boxesOf(item) {
  const [frame] = item.image.frames_ms ?? [];
  return item.decision.categories.filter((/** @type {any} */ category) => category.decision !== "allow").flatMap((/** @type {any} */ category) =>
    category.evidence
      .filter((/** @type {any} */ one) => one.box && (frame === undefined || frame === null || one.frame_ms === frame))
      .map((/** @type {any} */ one) => ({ box: one.box, label: one.label, score: one.score, kind: category.decision })),
  );
}
