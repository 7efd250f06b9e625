/** Where reviewers work: the next case, what is known of it, and the verdict. */
import { isReachable, Problem } from "../api.js";
import { html, useEffect, useMemo, useReducer, useState } from "../html.js";
import { useShortcuts } from "../parts/keys.js";
import { Loading, Notice } from "../parts/notice.js";
import { Tour } from "../parts/tour.js";
import { toast } from "../parts/toast.js";
import { may, setReviewer, useSession } from "../session.js";
import { t } from "../texts.js";
import { BreakDialog, useBreaks } from "./review/breaks.js";
import { Case } from "./review/case.js";
import { Queue } from "./review/queue.js";
import { Sending } from "./review/sending.js";
import { SettingsDialog, useSettings } from "./review/settings.js";
import { Unsent } from "./review/unsent.js";
import { title, Work } from "./review/work.js";

const FILTERS = "console.review.filters";

/** One for the page: verdicts on their way outlive the view. @type {Unsent | undefined} */
let unsent;

export default function View() {
  const { session } = useSession();
  if (!session.features.log) return html`<h1>${t("nav.review")}</h1><${Notice} text=${t("review.no_log")} />`;
  if (!session.reviewer && !session.name) return html`<${WhoAreYou} />`;
  return html`<${Desk} key=${session.reviewer} session=${session} />`;
}

function WhoAreYou() {
  const { session, reload } = useSession();
  const [error, setError] = useState(/** @type {any} */ (null));
  /** @param {any} event */
  const submit = async (event) => {
    event.preventDefault();
    const name = String(new FormData(event.target).get("reviewer")).trim();
    try {
      if (name) await setReviewer(session, name);
      await reload();
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<form class="card signin" onSubmit=${submit}>
      <h1>${t("nav.review")}</h1>
      <label>${t("review.who")}<input name="reviewer" required maxlength="128" autocomplete="name" autofocus />
        <span class="field-hint">${t("review.who_hint")}</span></label>
      ${error && html`<p class="error-text" role="alert">${error.detail}</p>`}
      <button class="primary">${t("review.begin")}</button>
    </form>`;
}

/** @param {{session: import("../session.js").Session}} props */
function Desk({ session }) {
  const sender = (unsent ??= new Unsent());
  const [, tick] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const [said, setSaid] = useState("");
  const [settings, setSettings] = useSettings();
  const [settingsOpen, setSettingsOpen] = useState(false);
  const [paused, setPaused] = useState(false);
  const breaks = useBreaks(settings.breakAfter);
  const [filters, setFilters] = useState(() => ({
    order: "oldest", policy: "", category: "", key: "", reason: "", ...JSON.parse(localStorage.getItem(FILTERS) ?? "{}"),
  }));
  const work = useMemo(() => (paused ? null : new Work(sender, session.reviewer, filters)), [paused]);

  useEffect(() => {
    if (!work) return undefined;
    const lost = (/** @type {any} */ event) => say(t("review.said.lost", { title: title(event.detail) }));
    const stop = new AbortController();
    work.addEventListener("change", tick, { signal: stop.signal });
    work.addEventListener("lost", lost, { signal: stop.signal });
    sender.addEventListener("change", tick, { signal: stop.signal });
    sender.addEventListener("kept", (/** @type {any} */ { detail: { entry, answer } }) => {
      for (const list of answer.still_blocked_by ?? []) toast(t("review.said.still_blocked", { title: entry.title, list }), "error");
      void work.count();
    }, { signal: stop.signal });
    sender.addEventListener("refused", (/** @type {any} */ { detail: { entry, problem } }) => {
      if (problem.code === "claim_lost") breaks.count(-1);
      toast(t("review.refused", { title: entry.title, decision: t(`decision.${entry.body.decision}`) }), "error");
    }, { signal: stop.signal });
    work.start();
    void sender.send();
    return () => {
      stop.abort();
      work.stop();
    };
  }, [work]);

  /** @param {string} text */
  const say = (text) => {
    setSaid(text);
    toast(text);
  };
  const focusCase = () => setTimeout(() => document.getElementById("review-case")?.focus(), 0);
  /** @param {"allow" | "block"} decision */
  const decide = (decision) => {
    if (!work?.current) return;
    const { item } = work.current;
    const second = work.draft(item).secondOpinion;
    work.decide(decision);
    breaks.count(1);
    setSaid(t(second ? "review.said.second" : `review.said.${decision}`, { title: title(item), held: work.held.length }));
    focusCase();
  };
  const skip = () => {
    if (!work?.current) return;
    setSaid(t("review.said.skipped", { title: title(work.current.item) }));
    void work.skip();
    focusCase();
  };
  const undo = async () => {
    if (!work?.decided.length) return;
    try {
      const item = await work.undo();
      breaks.count(-1);
      setSaid(t("review.said.undone", { title: title(item) }));
      focusCase();
    } catch (error) {
      say(error instanceof Problem && error.code !== "unsent" ? error.detail : t("review.said.not_sent_yet"));
    }
  };
  /** @param {typeof filters} next */
  const choose = (next) => {
    localStorage.setItem(FILTERS, JSON.stringify(next));
    setFilters(next);
    void work?.choose(next);
  };
  const pause = () => {
    breaks.rested();
    setPaused(true);
  };

  return html`
    <${Queue} filters=${filters} counts=${work?.counts} held=${work?.held ?? []} session=${breaks.session}
      onFilters=${choose} onSettings=${() => setSettingsOpen(true)} onPause=${pause} />
    <${Sending} unsent=${sender} />
    <p class="hidden" role="status" id="review-said">${said}</p>
    ${paused
      ? html`<${Notice} text=${t("review.paused")}><button type="button" class="primary" onClick=${() => setPaused(false)}>${t("review.resume")}</button><//>`
      : work?.current
        ? html`<${Case} held=${work.current} draft=${work.draft(work.current.item)} settings=${settings}
            mayList=${may(session, "manage")} canUndo=${work.decided.length > 0}
            onEdit=${(/** @type {any} */ change) => work.current && work.edit(work.current.item, change)} onDecide=${decide} onSkip=${skip} onUndo=${undo} />`
        : html`<${Nothing} work=${work} unsent=${sender} session=${session} off=${!settings.shortcuts} onUndo=${undo} />`}
    <${SettingsDialog} open=${settingsOpen} settings=${settings} onChange=${setSettings} onClose=${() => setSettingsOpen(false)} />
    <${BreakDialog} open=${breaks.isDue && !paused} session=${breaks.session} onPause=${pause} onLater=${breaks.later} />
  `;
}

/** What stands there while no case does. @param {{work: Work | null, unsent: Unsent, session: any, off: boolean, onUndo: () => void}} props */
function Nothing({ work, unsent: sender, session, off, onUndo }) {
  useShortcuts(work?.decided.length ? [{ keys: ["u"], text: t("review.key.undo"), run: onUndo, disabled: off }] : []);
  const error = work?.error;
  if (!isReachable() || (error && error.status === 0))
    return html`<${Notice} text=${t("review.connection_lost", { count: sender.waiting.length })} onRetry=${() => void work?.fill()} />`;
  if (error) return html`<${Notice} error=${error} onRetry=${() => void work?.fill()} />`;
  if (!work?.empty) return html`<${Loading} />`;
  return html`<${Notice}>
    <h2>${t(work.hasFilters ? "review.none_fits" : "review.empty")}</h2><p>${t(work.hasFilters ? "review.empty_filtered" : "review.empty_hint")}</p>
    ${work.decided.length > 0 && html`<button type="button" onClick=${onUndo}>${t("review.undo")}</button>`}
    ${session.demo && !work.hasFilters && may(session, "infer") && may(session, "manage") && html`<${Tour} onDone=${() => void work?.fill()} />`}
  <//>`;
}
