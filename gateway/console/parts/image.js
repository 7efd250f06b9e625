/** A picture with the evidence drawn where it was seen: boxes, the heat map, a legend to switch them. */
import { html, useEffect, useId, useState } from "../html.js";
import { percent, t } from "../texts.js";

/**
 * @typedef {object} Box
 * @property {number[]} box x0, y0, x1, y1 in pixels of the upright image
 * @property {string} label
 * @property {number} [score] 0..1
 * @property {string} [kind] allow, review or block give its color
 */

/** Return the address of a picture; that of a Blob lasts as long as the component. @param {string | Blob} image */
export function usePictureUrl(image) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (typeof image === "string") {
      setUrl(image);
      return undefined;
    }
    const made = URL.createObjectURL(image);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [image]);
  return url;
}

/**
 * @param {{image: string | Blob, alt: string, width?: number, height?: number, boxes?: Box[],
 *   heatmap?: {png: string, view_box: number[]} | null}} props
 *   width and height are of the upright image; without them nothing is drawn over it
 */
export function Evidence({ image, alt, width = 0, height = 0, boxes = [], heatmap = null }) {
  const url = usePictureUrl(image);
  const [broken, setBroken] = useState(false);
  const [withBoxes, setWithBoxes] = useState(true);
  const [withHeat, setWithHeat] = useState(true);
  const id = useId();
  useEffect(() => setBroken(false), [url]);
  const drawn = width > 0 && height > 0;
  return html`<figure class="evidence">
    <div class="evidence-frame" style=${drawn ? { "--ratio": `${width} / ${height}` } : {}}>
      ${broken
        ? html`<p class="evidence-gone" role="img" aria-label=${alt}><span>${t("evidence.cannot_show")}</span></p>`
        : url && html`<img src=${url} alt=${alt} referrerpolicy="no-referrer" onError=${() => setBroken(true)} />`}
      ${drawn && html`<svg viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
        ${withHeat && heatmap && html`<image href=${`data:image/png;base64,${heatmap.png}`} preserveAspectRatio="none"
          x=${heatmap.view_box[0]} y=${heatmap.view_box[1]} width=${heatmap.view_box[2] - heatmap.view_box[0]} height=${heatmap.view_box[3] - heatmap.view_box[1]} />`}
        ${withBoxes && boxes.map(({ box, label, kind }, place) => html`<rect key=${`${label} ${place}`} class=${`box box-${kind ?? "plain"}`} data-label=${label}
          x=${box[0]} y=${box[1]} width=${box[2] - box[0]} height=${box[3] - box[1]} />`)}
      </svg>`}
    </div>
    ${(boxes.length > 0 || heatmap) && drawn && html`<figcaption class="row evidence-legend">
      ${boxes.length > 0 && html`<label class="check" for=${`${id}-boxes`}><input id=${`${id}-boxes`} type="checkbox" checked=${withBoxes} onChange=${() => setWithBoxes(!withBoxes)} />${t("evidence.boxes")}</label>`}
      ${heatmap && html`<label class="check" for=${`${id}-heat`}><input id=${`${id}-heat`} type="checkbox" checked=${withHeat} onChange=${() => setWithHeat(!withHeat)} />${t("evidence.heatmap")}</label>`}
      ${withBoxes && html`<ul class="plain-list legend-boxes">${boxes.map(({ label, score, kind }, place) => html`<li key=${place}><i class=${`swatch box-${kind ?? "plain"}`}></i><span class="wrap">${label}</span>${score !== undefined && html` <span class="quiet">${percent(score)}</span>`}</li>`)}</ul>`}
    </figcaption>`}
  </figure>`;
}
