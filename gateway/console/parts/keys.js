/** Keyboard shortcuts of the view that is shown, and the help that lists them (?). */
import { html, useLayoutEffect, useState } from "../html.js";
import { t } from "../texts.js";
import { Dialog } from "./dialog.js";

/** @typedef {{keys: string[], text: string, run: (event: KeyboardEvent) => void, disabled?: boolean}} Shortcut */

/** @type {Set<{current: Shortcut[]}>} */
const inForce = new Set();

/** @param {EventTarget | null} target */
const isTyping = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
    && !/^(checkbox|radio|button|range)$/.test(/** @type {HTMLInputElement} */ (target).type));

/**
 * Put shortcuts in force while a component is shown. A key is `event.key`, in lower case for letters. Nothing runs while
 * somebody types, holds Ctrl, Alt or Meta, or has a dialog open.
 * @param {Shortcut[]} shortcuts
 */
export function useShortcuts(shortcuts) {
  const [mine] = useState(() => ({ current: shortcuts }));
  mine.current = shortcuts;
  useLayoutEffect(() => { // before the page is painted: who sees a case may press its keys
    inForce.add(mine);
    return () => {
      inForce.delete(mine);
    };
  }, [mine]);
}

/** @param {KeyboardEvent} event */
function dispatch(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  for (const { current } of inForce)
    for (const shortcut of current)
      if (!shortcut.disabled && shortcut.keys.includes(key)) {
        event.preventDefault();
        shortcut.run(event);
        return;
      }
}

/** A row of keys is told by its ends. @param {string[]} keys */
const shown = (keys) => (keys.length > 3 ? [`${keys[0]} – ${keys.at(-1)}`] : keys);

export function KeyboardHelp() {
  const [open, setOpen] = useState(false);
  useShortcuts([{ keys: ["?"], text: t("keys.help"), run: () => setOpen(true) }]);
  useLayoutEffect(() => {
    addEventListener("keydown", dispatch);
    return () => removeEventListener("keydown", dispatch);
  }, []);
  return html`<${Dialog} open=${open} title=${t("keys.title")} onClose=${() => setOpen(false)}>
    <dl class="keys">
      ${[...inForce].flatMap(({ current }) => current).map(
        ({ keys, text }) => html`<div key=${text}><dt>${shown(keys).map((key) => html`<kbd>${key.length === 1 ? key.toUpperCase() : key}</kbd>`)}</dt><dd>${text}</dd></div>`,
      )}
    </dl>
  <//>`;
}
