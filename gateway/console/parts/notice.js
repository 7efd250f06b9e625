/** What stands in a view's place: that it loads, that it failed, that there is nothing. */
import { html } from "../html.js";
import { t } from "../texts.js";

export function Loading() {
  return html`<p class="notice" role="status">${t("app.loading")}</p>`;
}

/**
 * @param {{text?: string, error?: any, onRetry?: () => void, children?: any}} props
 */
export function Notice({ text, error, onRetry, children }) {
  return html`
    <div class="notice" role=${error ? "alert" : "status"}>
      ${text && html`<p>${text}</p>`}
      ${error && html`<p>${error.detail ?? error.message}</p>`}
      ${error?.requestId && html`<p class="quiet">${t("app.request_id", { id: error.requestId })}</p>`}
      ${children}
      ${onRetry && html`<button type="button" onClick=${onRetry}>${t("app.retry")}</button>`}
    </div>
  `;
}
