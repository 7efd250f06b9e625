import { html } from "../html.js";
import { t } from "../texts.js";

export default function View() {
  return html`<h1>${t("nav.review")}</h1>`;
}
