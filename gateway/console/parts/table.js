/** A table of any length: only the rows in sight are in the document. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";

const BEYOND = 12; // rows drawn above and below those in sight
const AHEAD = 150; // rows left below those in sight when the next page is asked for

/**
 * @typedef {object} Column
 * @property {string} name heading
 * @property {(row: any) => any} cell
 * @property {string} [class]
 */

/**
 * Rows of one height in a box that scrolls. Arrow keys, Home, End and the page keys move, Enter opens.
 * @param {{label: string, columns: Column[], rows: any[], id: (row: any) => string, href: (row: any) => string, onEnd?: () => void, busy?: boolean, total?: number}} props
 *   `onEnd` is called when the end comes near; `total` is -1 while there are more rows than are here
 */
export function VirtualTable({ label, columns, rows, id, href, onEnd, busy, total = rows.length }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [height, setHeight] = useState(40);
  const [span, setSpan] = useState({ from: 0, to: 60 });
  const [active, setActive] = useState(0);

  const look = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.floor(element.scrollTop / height);
    const seen = Math.ceil(element.clientHeight / height);
    // Moved in steps of half of what is drawn in vain, so that most scroll events draw nothing.
    const step = BEYOND / 2;
    const from = Math.max(0, Math.floor((first - BEYOND) / step) * step);
    const to = from + seen + 2 * BEYOND + step;
    setSpan((before) => (before.from === from && before.to === to ? before : { from, to }));
    if (onEnd && first + seen > rows.length - AHEAD) onEnd();
  };

  useLayoutEffect(() => {
    const row = box.current?.querySelector("tbody tr.virtual-row");
    if (row instanceof HTMLElement && row.offsetHeight > 0) setHeight(row.offsetHeight);
  }, [rows.length > 0]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    let frame = 0;
    const later = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        look();
      });
    };
    element.addEventListener("scroll", later, { passive: true });
    const sizes = new ResizeObserver(later);
    sizes.observe(element);
    look();
    return () => {
      cancelAnimationFrame(frame);
      element.removeEventListener("scroll", later);
      sizes.disconnect();
    };
  }, [rows, height, onEnd]);

  const move = (/** @type {number} */ place) => {
    const next = Math.max(0, Math.min(rows.length - 1, place));
    const element = box.current;
    if (!element) return;
    setActive(next);
    const head = element.querySelector("thead")?.clientHeight ?? 0;
    if (next * height < element.scrollTop) element.scrollTop = next * height;
    if ((next + 1) * height + head > element.scrollTop + element.clientHeight) element.scrollTop = (next + 1) * height + head - element.clientHeight;
    requestAnimationFrame(() => requestAnimationFrame(() => /** @type {HTMLElement | null} */ (element.querySelector(`[data-place="${next}"] a`))?.focus({ preventScroll: true })));
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const page = Math.floor((box.current?.clientHeight ?? 400) / height) - 1;
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: rows.length - 1 });
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    move(steps[event.key]);
  };

  const to = Math.min(span.to, rows.length);
  const from = Math.min(span.from, to);
  return html`<div class="scroll virtual" ref=${box} role="region" aria-label=${label} tabindex="0" aria-busy=${busy ? "true" : "false"} onKeyDown=${onKeyDown}>
    <table class="dense" aria-rowcount=${total < 0 ? -1 : total + 1}>
      <thead><tr aria-rowindex="1">${columns.map((column) => html`<th key=${column.name} scope="col" class=${column.class}>${column.name}</th>`)}</tr></thead>
      <tbody>
        ${from > 0 && html`<tr key="above" aria-hidden="true" class="filler"><td colspan=${columns.length} style=${{ height: `${from * height}px` }}></td></tr>`}
        ${rows.slice(from, to).map((row, offset) => {
          const place = from + offset;
          return html`<tr key=${id(row)} class="virtual-row" data-place=${place} aria-rowindex=${place + 2}>
            ${columns.map((column, index) => html`<td key=${column.name} class=${column.class}>${index === 0
              ? html`<a href=${href(row)} tabindex=${place === active ? 0 : -1} onFocus=${() => setActive(place)}>${column.cell(row)}</a>`
              : column.cell(row)}</td>`)}
          </tr>`;
        })}
        ${to < rows.length && html`<tr key="below" aria-hidden="true" class="filler"><td colspan=${columns.length} style=${{ height: `${(rows.length - to) * height}px` }}></td></tr>`}
      </tbody>
    </table>
  </div>`;
}
