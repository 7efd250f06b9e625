/** A modal dialog: the browser's own, so that focus, Escape and the page behind it are right. */
import { html, useEffect, useId, useRef } from "../html.js";
import { t } from "../texts.js";

/** @param {{open: boolean, title: string, onClose: () => void, children?: any}} props */
export function Dialog({ open, title, onClose, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const id = useId();
  useEffect(() => {
    const dialog = element.current;
    if (!dialog) return;
    if (open && !dialog.open) dialog.showModal();
    if (!open && dialog.open) dialog.close();
  }, [open]);
  return html`<dialog ref=${element} aria-labelledby=${id} onClose=${onClose}>
    <header><h2 id=${id}>${title}</h2>
      <button type="button" class="plain" aria-label=${t("app.close")} onClick=${onClose}>✕</button></header>
    ${open && children}
  </dialog>`;
}
