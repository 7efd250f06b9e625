/** The decision log: search, export, what people and policy agree on, and one decision whole. */
import { api, withQuery } from "../api.js";
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../html.js";
import { Decision } from "../parts/decision.js";
import { Notice } from "../parts/notice.js";
import { VirtualTable } from "../parts/table.js";
import { link } from "../router.js";
import { may, useSession } from "../session.js";
import { number, percent, t, time } from "../texts.js";
import { Agreement } from "./decisions_agreement.js";
import { Detail } from "./decisions_detail.js";
import { Filters, filtersOf } from "./decisions_filters.js";

const PAGE = 100; // rows a request: parsed and put in within a frame

/** @param {{route: import("../router.js").Route}} props */
export default function Decisions({ route }) {
  const { session } = useSession();
  const [id] = route.rest;
  const shown = useRef(route.query);
  if (!id) shown.current = route.query;
  const query = shown.current;
  const filters = useMemo(() => filtersOf(query), [query.toString()]);
  const agreement = query.get("show") === "agreement";
  if (!session.features.log) return html`<h1>${t("nav.decisions")}</h1><${Notice} text=${t("decisions.no_log")} />`;
  return html`
    ${id && html`<${Detail} key=${id} id=${id} back=${withQuery(link("decisions"), Object.fromEntries(query))} />`}
    <div class="stack wide-stack" hidden=${Boolean(id)}>
      <div class="view-head">
        <h1>${t("nav.decisions")}</h1>
        <nav class="segments" aria-label=${t("decisions.views")}>
          <a class="button" href=${withQuery(link("decisions"), filters)} aria-current=${agreement ? undefined : "page"}>${t("decisions.log")}</a>
          <a class="button" href=${withQuery(link("decisions"), { ...filters, show: "agreement" })} aria-current=${agreement ? "page" : undefined}>${t("decisions.agreement")}</a>
        </nav>
      </div>
      ${agreement
        ? html`<${Agreement} filters=${filters} />`
        : html`<${Filters} filters=${filters} /><${Log} key=${JSON.stringify(filters)} filters=${filters} canRead=${may(session, "read")} />`}
    </div>
  `;
}

/** @param {any} row */
const strongest = (row) => Object.entries(row.scores ?? {}).sort(([, one], [, other]) => Number(other) - Number(one))[0];

/** @type {() => import("../parts/table.js").Column[]} */
const columns = () => [
  { name: t("decisions.at"), width: "14.25rem", cell: (row) => time(row.at) },
  { name: t("decisions.external_id"), width: "minmax(8rem, 1fr)", cell: (row) => row.external_id ?? html`<span class="quiet">–</span>` },
  { name: t("decisions.decision"), width: "6.75rem", cell: (row) => html`<${Decision} decision=${row.decision} />` },
  { name: t("decisions.outcome"), width: "6.75rem", cell: (row) => (row.reviewed ? html`<${Decision} decision=${row.outcome} />` : html`<span class="quiet">–</span>`) },
  { name: t("decisions.reviewer"), width: "8rem", from: 62, cell: (row) => row.reviewed?.reviewer ?? row.reviewed?.key ?? "" },
  {
    name: t("decisions.strongest"), width: "11rem",
    cell: (row) => {
      const [category, score] = strongest(row) ?? [];
      return category === undefined ? "–" : html`<span class="cell-score"><span>${category}</span><span class="number quiet">${percent(Number(score))}</span></span>`;
    },
  },
  { name: t("decisions.policy"), width: "9rem", from: 56, cell: (row) => `${row.policy.name}@${row.policy.version}` },
  { name: t("decisions.key"), width: "8rem", from: 88, cell: (row) => row.key ?? "–" },
  { name: t("decisions.hash"), width: "8.5rem", from: 88, cell: (row) => html`<span class="mono">${(row.image.sha256 ?? "").slice(0, 12)}</span>` },
];

/** @param {{filters: Record<string, string>}} props */
function Log({ filters }) {
  const [rows, setRows] = useState(/** @type {any[]} */ ([]));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [loading, setLoading] = useState(true);
  const cursor = useRef(/** @type {string | null | undefined} */ (undefined)); // null: that was all
  const asking = useRef(/** @type {AbortController | null} */ (null));
  const next = useCallback(async () => {
    if (asking.current || cursor.current === null) return;
    const mine = new AbortController();
    asking.current = mine;
    setLoading(true);
    try {
      const page = await api.get(withQuery("/v1/decisions", { ...filters, limit: PAGE, cursor: cursor.current }), { signal: mine.signal });
      cursor.current = page.next_cursor;
      setRows((before) => before.concat(page.data));
      setError(null);
    } catch (failure) {
      if (mine.signal.aborted) return;
      setError(failure);
    }
    asking.current = null;
    setLoading(false);
  }, []);
  const again = useCallback(() => {
    cursor.current = undefined;
    setRows([]);
    void next();
  }, []);
  const onEnd = useCallback(() => {
    if (cursor.current !== undefined) void next();
  }, []);
  useEffect(() => {
    void next();
    return () => asking.current?.abort();
  }, []);
  const all = cursor.current === null;
  const shown = useMemo(columns, []);
  return html`
    <section class="stack" aria-label=${t("decisions.log")}>
      <div class="view-head">
        <p role="status" class="quiet">${rows.length || !loading ? t(all ? "decisions.found" : "decisions.found_more", { count: number(rows.length) }) : t("app.loading")}</p>
        <div class="row">
          <button type="button" class="plain" onClick=${again}>${t("status.refresh")}</button>
          <a class="button" href=${withQuery("/v1/decisions", { ...filters, format: "csv" })} download="decisions.csv">${t("decisions.csv")}</a>
          <a class="button" href=${withQuery("/v1/decisions", { ...filters, format: "jsonl" })} download="decisions.jsonl">${t("decisions.jsonl")}</a>
        </div>
      </div>
      ${error && html`<${Notice} error=${error} onRetry=${next} />`}
      ${rows.length > 0 && html`<${VirtualTable} label=${t("decisions.log")} columns=${shown} rows=${rows} id=${rowId} href=${rowLink}
        onEnd=${onEnd} busy=${loading} total=${all ? rows.length : -1} />`}
      ${!rows.length && !loading && !error && html`<div class="card"><${Notice} text=${t(Object.keys(filters).length ? "decisions.none_found" : "decisions.empty")} /></div>`}
    </section>
  `;
}

const rowId = (/** @type {any} */ row) => row.id;
const rowLink = (/** @type {any} */ row) => link("decisions", row.id);
