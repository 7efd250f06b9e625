/** Asks before a change that was not saved is left behind. */
import { html, useEffect, useRef, useState } from "../html.js";
import { t } from "../texts.js";
import { Dialog } from "./dialog.js";

/**
 * @param {{dirty: boolean, stays: (hash: string) => boolean}} props `stays` tells whether an address keeps the changes
 */
export function Unsaved({ dirty, stays }) {
  const [wanted, setWanted] = useState(/** @type {string | null} */ (null));
  const leaving = useRef(false);
  useEffect(() => {
    if (!dirty) return;
    leaving.current = false;
    const onHash = (/** @type {HashChangeEvent} */ event) => {
      if (leaving.current || stays(location.hash)) return;
      event.stopImmediatePropagation(); // the router follows only once somebody has agreed
      setWanted(location.hash);
      history.pushState(null, "", event.oldURL);
    };
    const onUnload = (/** @type {BeforeUnloadEvent} */ event) => event.preventDefault();
    addEventListener("hashchange", onHash, { capture: true });
    addEventListener("beforeunload", onUnload);
    return () => {
      removeEventListener("hashchange", onHash, { capture: true });
      removeEventListener("beforeunload", onUnload);
    };
  }, [dirty, stays]);
  const leave = () => {
    leaving.current = true;
    location.hash = wanted ?? "";
  };
  return html`<${Dialog} open=${wanted !== null} title=${t("policies.unsaved_title")} onClose=${() => setWanted(null)}>
    <div class="stack"><p>${t("policies.unsaved_text")}</p>
      <div class="row"><button type="button" class="primary" onClick=${() => setWanted(null)}>${t("policies.stay")}</button>
        <button type="button" onClick=${leave}>${t("policies.leave")}</button></div></div>
  <//>`;
}
