/** The picture of a case: blurred and grey until it is asked for, its evidence drawn where it was seen, nothing plays. */
import { html, useEffect, useLayoutEffect, useState } from "../../html.js";
import { t } from "../../texts.js";

/** @typedef {{key: string, box: number[], decision: string, frame_ms: number | null}} Box */
/** @typedef {{width: number, height: number}} Size */

/** Keys that mean something of their own on these. */
const USES_SPACE = "button, a, summary, input, select, textarea, [contenteditable]";

/**
 * Whether the picture is shown as it is: while V or Space (outside of buttons) or the pointer is held, or after a click.
 * @param {string} caseId @param {{reveal: string, shortcuts: boolean}} settings
 */
export function useReveal(caseId, settings) {
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [caseId]);
  useLayoutEffect(() => {
    const holds = settings.reveal === "hold";
    /** @param {KeyboardEvent} event */
    const isReveal = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return false;
      const element = /** @type {HTMLElement} */ (event.target);
      if (event.key === " ") return !element.closest?.(USES_SPACE);
      return settings.shortcuts && event.key.toLowerCase() === "v" && !element.closest?.("input, select, textarea");
    };
    /** @param {KeyboardEvent} event */
    const down = (event) => {
      if (!isReveal(event)) return;
      event.preventDefault();
      if (!event.repeat) setOpen((before) => holds || !before);
    };
    /** @param {KeyboardEvent} event */
    const up = (event) => {
      if (holds && (event.key === " " || event.key.toLowerCase() === "v")) setOpen(false);
    };
    const hide = () => setOpen(false);
    addEventListener("keydown", down);
    addEventListener("keyup", up);
    addEventListener("blur", hide);
    return () => {
      removeEventListener("keydown", down);
      removeEventListener("keyup", up);
      removeEventListener("blur", hide);
    };
  }, [settings.reveal, settings.shortcuts]);
  return /** @type {const} */ ([open, setOpen]);
}

/**
 * @param {{
 *   held: import("./work.js").Held, still: number, settings: import("./settings.js").Settings,
 *   boxes: Box[], marked: string | null,
 *   reveal: readonly [boolean, (open: any) => void],
 * }} props
 */
export function Still({ held, still, settings, boxes, marked, reveal }) {
  const [open, setOpen] = reveal;
  const [loaded, setLoaded] = useState(/** @type {import("./pictures.js").Loaded | null} */ (null));
  const [tries, setTries] = useState(0);
  const [size, setSize] = useState(/** @type {Size | null} */ (null));
  const { image, withheld } = held.item;
  useEffect(() => {
    let wanted = true;
    setLoaded(null);
    setSize(null);
    if (held.pictures.count) void held.pictures.get(still).then((result) => wanted && setLoaded(result));
    return () => {
      wanted = false;
    };
  }, [held, still, tries]);
  if (withheld) return html`<${Absent} name="withheld"><p>${withheld.procedure || t("review.image.no_procedure")}</p><//>`;
  if (!held.pictures.count) return html`<${Absent} name=${image.state === "deleted" ? "gone" : "none"} />`;
  if (loaded?.state === "gone") return html`<${Absent} name="gone" />`;
  if (loaded?.state === "failed")
    return html`<${Absent} name="failed"><button type="button" onClick=${() => setTries(tries + 1)}>${t("app.retry")}</button><//>`;
  const whole = image.width ? image : size;
  const holds = settings.reveal === "hold";
  const hide = () => holds && setOpen(false);
  return html`<div class=${`still ${settings.blur ? "is-blurred" : ""} ${settings.grey ? "is-grey" : ""} ${open ? "is-open" : ""}`}
      onPointerDown=${(/** @type {PointerEvent} */ event) => event.button === 0 && setOpen((/** @type {boolean} */ before) => holds || !before)}
      onPointerUp=${hide} onPointerLeave=${hide} onPointerCancel=${hide}>
    ${loaded?.state === "ready" && html`<img src=${loaded.url} alt=${t("review.image.alt")} draggable=${false} referrerpolicy="no-referrer"
      onLoad=${(/** @type {any} */ event) => setSize({ width: event.target.naturalWidth, height: event.target.naturalHeight })} />`}
    ${whole && settings.boxes && html`<svg viewBox=${`0 0 ${whole.width} ${whole.height}`} aria-hidden="true">
      ${boxes.map(({ key, box, decision }) => html`<rect key=${key} class=${`seen-box seen-box-${decision} ${key === marked ? "is-marked" : ""}`}
        x=${box[0]} y=${box[1]} width=${box[2] - box[0]} height=${box[3] - box[1]} />`)}
    </svg>`}
    ${(settings.blur || settings.grey) && !open && html`<span class="still-hint">${t(holds ? "review.image.hold" : "review.image.click")}</span>`}
  </div>`;
}

/** @param {{name: string, children?: any}} props */
const Absent = ({ name, children }) => html`<div class=${`still absent absent-${name}`}>
  <div class="stack"><svg class="absent-sign" viewBox="0 0 24 24" aria-hidden="true">
    ${name === "withheld" ? html`<circle cx="12" cy="12" r="9" /><path d="M5.7 5.7 18.3 18.3" />` : html`<rect x="3" y="5" width="18" height="14" rx="2" /><path d="M4 20 20 4" />`}</svg>
  <h3>${t(`review.image.${name}`)}</h3><p class="quiet">${t(`review.image.${name}_hint`)}</p>${children}</div>
</div>`;
