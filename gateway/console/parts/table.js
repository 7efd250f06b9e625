/** A table of any length: only the rows in sight are in the document. */
import { html, useEffect, useMemo, useRef, useState } from "../html.js";

const BEYOND = 12; // rows drawn above and below those in sight
const ROW_REM = 2.5; // height of a row; --row in style.css
const AHEAD = 150; // rows left below those in sight when the next page is asked for

/**
 * @typedef {object} Column
 * @property {string} name heading
 * @property {(row: any) => any} cell
 * @property {string} width of the column, as CSS
 * @property {number} [from] width of the table, rem, below which the column is left out
 */

/**
 * Rows of one height in a box that scrolls. They are no <table>, whose layout looks at all rows when one comes.
 * Arrow keys, Home, End and the page keys move, Enter opens.
 * @param {{label: string, columns: Column[], rows: any[], id: (row: any) => string, href: (row: any) => string, onEnd?: () => void, busy?: boolean, total?: number}} props
 *   `onEnd` is called when the end comes near; `total` is -1 while there are more rows than are here
 */
export function VirtualTable({ label, columns: every, rows, id, href, onEnd, busy, total = rows.length }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const height = useRef(40); // of a row, px
  const [wide, setWide] = useState(80); // rem
  const columns = useMemo(() => every.filter(({ from = 0 }) => wide >= from), [every, wide]);
  const [span, setSpan] = useState({ from: 0, to: 60 });
  const [active, setActive] = useState(0);

  const look = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.floor(element.scrollTop / height.current);
    const seen = Math.ceil(element.clientHeight / height.current);
    // Moved in steps of half of what is drawn in vain, so that most scroll events draw nothing.
    const step = BEYOND / 2;
    const from = Math.max(0, Math.floor((first - BEYOND) / step) * step);
    const to = from + seen + 2 * BEYOND + step;
    setSpan((before) => (before.from === from && before.to === to ? before : { from, to }));
    if (onEnd && first + seen > rows.length - AHEAD) onEnd();
  };

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
    const sizes = new ResizeObserver(() => {
      const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
      height.current = ROW_REM * rem;
      setWide(Math.floor(element.clientWidth / rem));
      later();
    });
    sizes.observe(element);
    return () => {
      cancelAnimationFrame(frame);
      element.removeEventListener("scroll", later);
      sizes.disconnect();
    };
  }, [rows, onEnd]);

  const move = (/** @type {number} */ place) => {
    const next = Math.max(0, Math.min(rows.length - 1, place));
    const element = box.current;
    if (!element) return;
    setActive(next);
    const head = element.querySelector(".virtual-head")?.clientHeight ?? 0;
    const top = next * height.current;
    if (top < element.scrollTop) element.scrollTop = top;
    if (top + height.current + head > element.scrollTop + element.clientHeight) element.scrollTop = top + height.current + head - element.clientHeight;
    requestAnimationFrame(() => requestAnimationFrame(() => /** @type {HTMLElement | null} */ (element.querySelector(`[data-place="${next}"] a`))?.focus({ preventScroll: true })));
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const page = Math.floor((box.current?.clientHeight ?? 400) / height.current) - 1;
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: rows.length - 1 });
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    move(steps[event.key]);
  };

  const to = Math.min(span.to, rows.length);
  const from = Math.min(span.from, to);
  return html`<div class="scroll virtual" ref=${box} role="region" aria-label=${label} tabindex="0" aria-busy=${busy ? "true" : "false"} onKeyDown=${onKeyDown}>
    <div role="table" aria-label=${label} aria-rowcount=${total < 0 ? -1 : total + 1} style=${{ "--columns": columns.map(({ width }) => width).join(" "), "--rows": rows.length }}>
      <div role="rowgroup" class="virtual-head"><div role="row" aria-rowindex="1">${columns.map(({ name }) => html`<span key=${name} role="columnheader">${name}</span>`)}</div></div>
      <div class="virtual-body" role="presentation"><div role="rowgroup" style=${{ transform: `translateY(calc(${from} * var(--row)))` }}>
        ${rows.slice(from, to).map((row, offset) => {
          const place = from + offset;
          return html`<${Row} key=${id(row)} row=${row} place=${place} columns=${columns} href=${href} active=${place === active} onFocus=${setActive} />`;
        })}
      </div></div>
    </div>
  </div>`;
}

/**
 * One row; drawn anew only when something of it changed, since a scrolling table asks for all of them again and again.
 * @param {{row: any, place: number, columns: Column[], href: (row: any) => string, active: boolean, onFocus: (place: number) => void}} props
 */
function Row({ row, place, columns, href, active, onFocus }) {
  return useMemo(
    () => html`<div role="row" class="virtual-row" data-place=${place} aria-rowindex=${place + 2}>
      ${columns.map(({ name, cell }, index) => html`<span key=${name} role="cell">${index === 0
        ? html`<a href=${href(row)} tabindex=${active ? 0 : -1} onFocus=${() => onFocus(place)}>${cell(row)}</a>`
        : cell(row)}</span>`)}
    </div>`,
    [row, place, columns, active],
  );
}
