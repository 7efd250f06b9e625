/** What each reviewer sets for themselves; kept in this browser. */
import { html, useState } from "../../html.js";
import { Dialog } from "../../parts/dialog.js";
import { t } from "../../texts.js";

const KEPT = "console.review.settings";
const DEFAULTS = { blur: true, grey: true, reveal: "hold", boxes: true, shortcuts: true, breakAfter: 50 };
/** @typedef {typeof DEFAULTS} Settings */

/** @returns {Settings} */
function read() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") };
  } catch {
    return DEFAULTS;
  }
}

/** @returns {[Settings, (change: Partial<Settings>) => void]} */
export function useSettings() {
  const [settings, set] = useState(read);
  return [
    settings,
    (change) => {
      const next = { ...settings, ...change };
      localStorage.setItem(KEPT, JSON.stringify(next));
      set(next);
    },
  ];
}

/** @param {{open: boolean, settings: Settings, onChange: (change: Partial<Settings>) => void, onClose: () => void}} props */
export function SettingsDialog({ open, settings, onChange, onClose }) {
  /** @param {"blur" | "grey" | "boxes" | "shortcuts"} name */
  const check = (name) => html`<label class="check"><input type="checkbox" checked=${settings[name]}
    onChange=${(/** @type {any} */ event) => onChange({ [name]: event.target.checked })} />${t(`review.settings.${name}`)}</label>`;
  return html`<${Dialog} open=${open} title=${t("review.settings.title")} onClose=${onClose}>
    <div class="stack">
      ${check("blur")}${check("grey")}
      <label>${t("review.settings.reveal")}
        <select value=${settings.reveal} onChange=${(/** @type {any} */ event) => onChange({ reveal: event.target.value })}>
          <option value="hold">${t("review.settings.reveal_hold")}</option>
          <option value="click">${t("review.settings.reveal_click")}</option>
        </select></label>
      ${check("boxes")}${check("shortcuts")}
      <label>${t("review.settings.break_after")}
        <input type="number" min="5" max="240" value=${settings.breakAfter}
          onChange=${(/** @type {any} */ event) => onChange({ breakAfter: Math.min(240, Math.max(5, Number(event.target.value) || 50)) })} /></label>
      <p class="quiet">${t("review.settings.never")}</p>
    </div>
  <//>`;
}
