/** A field whose text is the reader's while they type, whatever is drawn meanwhile. */
import { h, useState } from "../html.js";

/**
 * @param {{as?: string, value: string | number, read: (text: string) => any, onValue: (value: any) => void, [more: string]: any}} props
 *   `read` gives what the text means, undefined while it means nothing; then the value stays
 */
export function Typed({ as = "input", value, read, onValue, ...more }) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  return h(as, {
    ...more,
    value: text ?? value,
    onInput: (/** @type {any} */ event) => {
      setText(event.target.value);
      const meant = read(event.target.value);
      if (meant !== undefined) onValue(meant);
    },
    onBlur: () => setText(null),
  });
}

/** A number, or undefined where the text is none. @param {string} text */
export const asNumber = (text) => (text === "" || Number.isNaN(Number(text)) ? undefined : Number(text));
