/** Asks before a change that was not saved is left behind. */
import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { setGuard } from "../router.js";
import { t } from "../texts.js";
import { Dialog } from "./dialog.js";

/**
 * @param {{dirty: boolean, stays: (hash: string) => boolean}} props `stays` tells whether an address keeps the changes
 */
export function Unsaved({ dirty, stays }) {
  const [wanted, setWanted] = useState(/** @type {string | null} */ (null));
  const leaving = useRef(false);
  useLayoutEffect(() => {
    if (!dirty) return;
    leaving.current = false;
    const onHash = (/** @type {HashChangeEvent} */ event) => {
      if (leaving.current || stays(location.hash)) return false;
      setWanted(location.hash);
      history.pushState(null, "", event.oldURL);
      return true;
    };
    const onUnload = (/** @type {BeforeUnloadEvent} */ event) => event.preventDefault();
    setGuard(onHash);
    addEventListener("beforeunload", onUnload);
    return () => {
      setGuard(null);
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
