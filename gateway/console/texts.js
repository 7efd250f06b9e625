/** Every English text of the console. A translation replaces this file; `{name}` is filled in. */

export const texts = {
  app: {
    name: "Moderation console",
    skip: "Skip to content",
    navigation: "Sections",
    failed: "This view failed. Reload the page; if it fails again, tell your operator what you did.",
    loading: "Loading…",
    retry: "Try again",
    lost: "The connection to the gateway is lost. What you do is not saved until it is back.",
    demo: "Demo model: it understands drawings only.",
    demo_short: "Demo model",
    theme: "Colors",
    theme_auto: "As the system",
    theme_light: "Light",
    theme_dark: "Dark",
    close: "Close",
    cancel: "Cancel",
    copy: "Copy",
    copied: "Copied",
    not_found: "There is no such page.",
    forbidden: "Your key has no role for this: it needs {roles}.",
    request_id: "Request {id}",
  },
  nav: {
    try: "Try",
    review: "Review",
    decisions: "Decisions",
    policies: "Policies",
    evaluate: "Evaluate",
    status: "Status",
  },
  decision: { allow: "Allow", review: "Review", block: "Block", none: "No decision" },
  signin: {
    title: "Sign in",
    key: "API key",
    key_hint: "It is exchanged for a cookie of this page and is not kept.",
    reviewer: "Your name",
    reviewer_hint: "It stands beside every verdict that you give.",
    submit: "Sign in",
    oidc: "Sign in with your organization",
    out: "Sign out",
    wrong: "This key is not known.",
    open: "No keys are configured: everybody who reaches this gateway may do everything.",
    lead: "Exchange an API key for a session of this page.",
  },
  account: { menu: "Account:", you: "Account", keep_name: "Save name", name_kept: "The name is saved.", roles: "{name}: {roles}", version: "Version {version}", api: "API" },
  evidence: { boxes: "Where it was seen", heatmap: "Heat map", cannot_show: "This browser cannot show the picture. The gateway reads more formats." },
  try: {
    lead: "See what the gateway says of a picture, and where it saw it.",
    question: "What to ask", by: "Ask by", by_policy: "Policy", by_labels: "Labels", by_classifier: "Classifier",
    policy: "Policy", shadow: "Second policy", no_shadow: "None", classifier: "Classifier", labels: "Labels", labels_hint: "One a line, in plain words: a red circle.",
    mode: "Scores", mode_softmax: "One label fits (sum to 1)", mode_independent: "Each label by itself",
    views: "Looked at", view_full: "The whole picture", view_tiles: "Whole picture and tiles", view_center: "Center",
    heatmap: "Heat map: what drove the score (slower)",
    pictures: "Pictures", drop: "Drop pictures here", drop_hint: "or paste them with Ctrl+V", choose: "Choose files", pasted: "pasted picture",
    url: "Address of a picture", url_placeholder: "https://… link to a picture", url_add: "Add",
    same_call: "The same call as code", language: "Language", call_as: "The call in {language}", copy_failed: "The browser did not allow to copy.",
    answers: "Answers", empty: "No pictures yet. What you try here is decided and logged like any other request.",
    again: "Ask again", clear: "Clear", remove: "Remove {name}", asking: "Asking…", frames: "Frames", all_frames: "All frames", frame_at: "{at} s", frames_seen: "{seen} of {all} frames",
    shadow_says: "{name} would say", none_of_these: "No label fits.", open_decision: "Open the decision",
    said: "{count} pictures answered, {failed} failed.", said_label: "{label}, {score}",
  },
  tour: {
    fill: "Fill the queue with drawings", hint: "Sends 60 drawings through a policy that asks people often, and opens the queue.",
    policy: "For the tour: asks people about nearly everything.", progress: "{done} of {total} drawings", filled: "{count} drawings were decided.",
  },
  decisions: {
    views: "What is shown", log: "Log", agreement: "Agreement", no_log: "This gateway keeps no decision log (DECISION_LOG=false).",
    since: "From", until: "Until", policy: "Policy", category: "Category", decision: "Decision", outcome: "Outcome", reviewed: "Reviewed",
    shadow_differs: "Shadow differs", external_id: "External id", image_sha256: "SHA-256", any: "Any", yes: "Yes", no: "No", clear: "Clear filters",
    at: "When", strongest: "Highest score", key: "Key", hash: "Hash", reviewer: "Reviewer",
    found: "{count} decisions", found_more: "{count} decisions loaded; scroll for more", none_found: "No decision fits these filters.", empty: "Nothing was decided yet. Moderate a picture under Try, and it appears here.",
    csv: "CSV", jsonl: "JSON lines",
    picture: "Picture", show_picture: "Show picture", hide_picture: "Hide picture", picture_of: "Picture of {name}", noted: "The audit notes who looks at a kept picture.",
    back: "Decisions", one: "Decision", evidence: "Scores and evidence", no_scores: "Nothing was scored.", label: "Label", where: "Where", score: "Score",
    review_from: "review from {at}", block_from: "block from {at}",
    facts: "Facts", classifiers: "Classifiers", pdq: "PDQ hash", bundle: "Model bundle", request: "Request", audit_share: "Audit share", somebody: "somebody",
    history: "Verdicts", no_verdicts: "Nobody has judged this decision.", on_list: "Put on the list {list}",
    shadow: "Shadow policy", differs: "differs", attributes: "Attributes", raw: "As JSON", similar: "Similar decisions", no_similar: "No similar decision is stored.", similarity: "Similarity",
    do: { feedback: "Give verdict", appeal: "Appeal", hold: "Legal hold", forget: "Forget" },
    verdict: "Verdict", because: "Because of", note: "Note", add_to_list: "Decide the same file so from now on (hash list)", keep: "Keep verdict", verdict_kept: "The verdict is kept.",
    appeal_text: "The case is opened again for review, with its history.", appealed: "The case is open again.",
    hold_text: "Nothing of “{id}” can be deleted until the hold is released.", hold_there: "“{id}” is held: nothing of it can be deleted.", hold_reason: "Reason", held: "The legal hold is set.", release: "Release hold", released: "The legal hold is released.",
    forget_text: "Every decision, verdict, note and picture of this external id is deleted. This cannot be undone.", forget_type: "Type the external id to confirm", forgotten: "It is forgotten.",
    over_time: "Decisions over time", bucket: "Width of a bar", buckets: { hour: "Hour", day: "Day", week: "Week" }, chart: "Decisions as stacked bars, and the share of verdicts that agree as a line; the table below has the numbers.",
    agreed_share: "Agreement", agreement_means: "A verdict agrees where the policy flagged a picture and a person blocked it, or the policy let it pass and a person allowed it.",
    from: "From", reviewed_count: "Reviewed", agreed: "Agreed", overturned: "Overturned",
  },
  policies: {
    policies: "Policies", classifiers: "Classifiers", classifiers_are: "A classifier turns a picture into scores for its labels. Policies say what the scores mean.",
    new_policy: "New policy", new_classifier: "New classifier", name_hint: "Lower-case letters, digits, dots, dashes and underscores; at most 64.", begin: "Begin",
    version: "Version {version}", version_head: "Version", draft: "draft", more_rules: "and {count} more", labels: "Labels", mode: "Mode", trained: "Trained head",
    active_version: "Version {version} in force", draft_version: "Version {version}, a draft", editing_version: "Editing from version {version}",
    parts: "Parts of the policy", tabs: { edit: "Edit", versions: "Versions", rollout: "Rollout" }, written_as: "Written as", form: "Form", yaml: "The same as YAML",
    save_bar: "Saving", unsaved: "Unsaved changes", nothing_changed: "No changes", not_in_force: "Not in force", reset: "Discard", save_draft: "Save draft", put_in_force: "Put in force",
    in_force: "Version {version} is in force.", saved_draft: "Version {version} is saved as a draft.",
    unsaved_title: "Leave without saving?", unsaved_text: "What you changed here is not saved.", stay: "Stay", leave: "Leave",
    conflict: "Somebody saved meanwhile", conflict_text: "Version {version} is in force now. Minus is theirs, plus is yours.", take_theirs: "Take theirs", save_mine: "Save mine over it",
    no_difference: "They are the same.", diff_gone: "removed", diff_new: "added",
    everything: "The whole policy", description: "Description", views: "What is looked at", views_hint: "Tiles find small things; they cost up to six times as much.",
    view_names: { center: "Center", full: "Full picture", tiles: "Full picture and tiles" }, audit_share: "Audit share", audit_share_hint: "Of what is allowed, so much goes to review, so that misses are seen.",
    review_on: "Send to review what carries a warning", warnings: { frames_sampled: "Not all frames were looked at", max_inferences_reached: "Too many views", perceptual_lists_not_asked: "Perceptual lists were not asked" },
    tuned_on: "Thresholds were chosen on {images} pictures, {at}.", carried_from: "Thresholds are those of version {version} for another model ({bundle}), not measured on this one.", rest_in_yaml: "Attributes and OpenAI categories are edited as YAML.",
    add_rule: "Add rule", new_rule: "New rule", remove_rule: "Remove", category: "Category", classifier: "Classifier", aggregate: "Labels count as", by_mode: "The mode says", sum: "Sum", max: "Highest", choose_classifier: "Choose a classifier first.",
    scored_by: "Scored by {classifier}, {labels} labels", labelled: "{positives} blocked, {negatives} allowed by people",
    review_at: "Review from", block_at: "Block from", never: "never", number: "as a number", histogram: "Scores of {name} over {count} decisions",
    worth: "precision {precision}, recall {recall}",
    preview: "What would change", on_recent: "{count} recent decisions", save_first: "Save a first version; then recent decisions show what a change would do.",
    would_change: "{count} would change ({share})", none_would_change: "Nothing would change", now: "Now", then: "Then", change: "Change", move: "{count}: {from} → {to}", skipped: "{count} could not be scored.",
    examples: "Examples", person_said: "a person said {label}", on_pictures: "Try on pictures", drop: "Drop pictures here, or choose them",
    versions: "Versions", active: "In force", against: "Version {version} against {base}", edit_from: "Edit from here", roll_back: "Roll back to it", activate_text: "Version {version} decides from now on, everywhere. A rollout ends with it.",
    runs_beside: "Beside the active version", no_rollout: "The active version decides alone.", shadow: "Shadow", shadow_hint: "A policy, name or name@version: evaluated and reported, never decisive.", candidate: "Candidate", share: "Share of the pictures",
    share_of: "version {version} for {share} of the pictures", where_differs: "Decisions where the shadow differs", end_rollout: "End rollout", rollout_ended: "The active version decides alone.", set_rollout: "Set rollout", rollout_set: "The rollout is in force.",
    rollout_text: "Which version decides follows from the file’s hash: the same file always gets the same one.", none: "None",
    delete: "Delete", delete_title: "Delete {name}?", delete_text: "All its versions are deleted. It is refused while a policy uses it.", deleted: "It is deleted.",
    label: "Label", prompts: "Prompts", prompts_hint: "One a line; the label itself by default.", negatives: "Negatives", negatives_hint: "One a line: what it is weighed against.", add_label: "Add label", remove_label: "Remove label",
    mode_softmax: "Exactly one label fits; scores sum to 1.", mode_independent: "Each label for itself, against its negatives.",
    train_text: "A head that is trained on your verdicts is often better than words.", train_link: "How to train one (POST /v1/classifiers/{name}/train)",
  },
  evaluate: {
    off: "Jobs are switched off in this gateway.", about: "Measure a policy on pictures whose labels you know, and choose thresholds that keep a promise.",
    jobs: "Evaluations", no_jobs: "No evaluation has been run.", policy: "Policy", source: "Pictures", reviewed: "reviewed decisions", reviewed_all: "Decisions that people reviewed", pictures: "{count} pictures",
    start: "Start evaluation", goals: "Goals", fpr: "Harmless pictures blocked, at most", fpr_hint: "0.01 is one in a hundred.", catch: "Harmful pictures caught, at least", catch_hint: "Reviewed or blocked.", share: "Sent to review, at most", share_hint: "Empty: no limit.", confidence: "Confidence",
    calibrate: "Calibrate scores too", compare: "Compare with", job: "Evaluation", begun: "Begun by {who}, {at}", cancel: "Cancel job", failed: "It failed",
    pictures_head: "Pictures", failed_head: "Failed", right: "Right decisions", figures: "Figures", use: "Use these thresholds", promises: "What they promise", missing: "What could not be promised",
    report: "Report", open: "Open alone", files: "Files", positives: "Positives", precision: "Average precision", recall_at: "Recall at {rate} false", change: "AUC against before",
    sets: "Labelled sets", new_set: "New set", sets_text: "Pictures are scored once; their vectors and labels are kept, the pictures never.", no_sets: "There is no labelled set. Upload a folder with a folder for each label.", add: "Add pictures", delete_text: "Its vectors and labels are deleted.",
    folder: "A folder of folders", folder_hint: "The name of a picture’s folder is its label: a category of the policy, or harmless.", files_of_one: "Or pictures of one label", label: "Label", label_hint: "Of pictures that lie in no folder.", no_label: "no label", failures: "{count} failed", upload: "Upload {count} pictures", uploaded: "The pictures are in the set.",
  },
  status: {
    refreshed: "Refreshed {at}", refresh: "Refresh", ready: "Everything works", degraded: "It works, but something is lost", unready: "Not ready: pictures are not decided",
    failing: {
      inference: "The model does not answer. Look whether Triton runs and has the model loaded.", bundle: "The model that answers is not the one of this gateway’s bundle. Deploy both from one export.",
      policies: "No policies are loaded yet. Look at the database.", lists: "The hash lists are not loaded yet. Look at the database.",
      decoders: "Pictures cannot be decoded. Look at the gateway’s memory limit, and restart it.", draining: "This gateway is about to end; another one takes over.",
    },
    unknown: "not known",
    requests: "Requests", images: "Pictures", per_second: "per second, last minute", in_flight: "In flight", waiting: "Waiting for review", oldest: "oldest {at}", jobs_running: "Jobs running", jobs_queued: "{count} queued", dead: "Undeliverable webhooks", undelivered: "{count} waiting",
    latency: "Latency by stage", no_requests: "No requests yet.", stage: "Stage", count: "Count", gateway: "Gateway", replica: "Answered by", model: "Model", revision: "Revision", bundle: "Bundle", device: "Device", input: "Input → vector",
    errors: "Errors", no_errors: "No errors.", code: "Code", lists: "Hash lists", no_lists: "No hash lists.", name: "Name", action: "Action", kind: "Kind", entries: "Entries", withheld: "withheld",
    tritons: "Tritons", address: "Address", reason: "Reason", replicas: "Replicas", state: "State", started: "Started", seen: "Last seen", ready_short: "ready", degraded_short: "degraded", unready_short: "not ready",
    jobs: "Jobs", no_jobs: "No jobs.", job: "Job", progress: "Progress", who: "Who", at: "When", job_states: { queued: "Queued", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" },
    webhooks: "Webhooks", delivery: { dead: "Dead", waiting: "Waiting", delivered: "Delivered" }, no_deliveries: "None.", event: "Event", decision: "Decision", attempts: "Attempts", last_error: "Last error", retry: "Retry", retried: "It is tried again.", next: "Next try",
    keys: "Keys", roles: "Roles", rate: "Rate", last_used: "Last used", never: "never", signed_in_by: "Signed in by", by: { key: "API key", oidc: "OpenID Connect" }, sessions: "Sessions", no_sessions: "Nobody is signed in.", expires: "Expires", revoke: "Revoke", revoked: "The session is ended.", revoke_title: "End this session?", revoke_text: "{who} is signed out at once.",
    audit: "Audit", no_audit: "Nothing was changed yet.", what: "What", of: "Of", more: "Show more",
  },
  review: {
    queue: "Queue",
    order: "Order",
    orders: { oldest: "Oldest first", riskiest: "Riskiest first", uncertain: "Most uncertain first" },
    filters: "Filters",
    filters_on: "Filters ({count})",
    filters_hint: "The case on the screen stays; the next ones are chosen so.",
    filter: { policy: "Policy", category: "Category", key: "API key", reason: "Why it waits" },
    any: "Any",
    apply: "Apply",
    clear: "Clear",
    why: { policy: "Policy", audit: "Audit sample", appeal: "Appeal", second_opinion: "Second opinion" },
    count: { waiting: "waiting", claimed: "in work", appeals: "appeals", oldest: "oldest {ago}" },
    session: "You hold {held}, decided {cases} in {minutes} min",
    pause: "Pause",
    resume: "Go on",
    paused: "Paused. Nobody waits for you: your cases went back to the queue.",
    who: "Your name",
    who_hint: "It stands beside every verdict that you give.",
    begin: "Begin",
    no_log: "This gateway keeps no decisions (DECISION_LOG is off), so none can wait for review.",
    empty: "The queue is empty",
    empty_hint: "New cases appear here by themselves.",
    none_fits: "No case fits your filters",
    empty_filtered: "Nothing that your filters leave waits for you. New cases appear here by themselves.",
    connection_lost: "The connection to the gateway is lost. Verdicts that wait to be sent: {count}. They are kept in this tab and sent when it is back.",
    unsent: "Not sent yet: {count}",
    send_now: "Send now",
    refused: "Not taken: {title}, {decision}",
    dismiss: "Dismiss",
    scores: "Scores and evidence",
    no_categories: "The policy saw nothing: this is a random sample of what it allowed.",
    on_list: "on list {list}",
    facts: "Case",
    fact: {
      policy: "Policy", shadow: "Shadow says", outcome: "Holds now", at: "Decided", key: "API key", external_id: "External id",
      sha256: "SHA-256", pdq: "PDQ", decision: "Decision",
    },
    history: "History",
    no_history: "Nobody has said anything about it yet.",
    kind: { verdict: "Verdict", appeal: "Appeal", undo: "Taken back" },
    somebody: "somebody",
    similar: "Similar earlier decisions",
    no_similar: "None is known.",
    by_person: "a person",
    by_policy: "the policy",
    known: "What is known of the case",
    verdict: "Your verdict",
    categories: "Categories",
    reason: "Reason",
    reasons: {
      policy: "As the policy says", context: "Harmless in its context", art: "Art or education", news: "News or documentation",
      mistaken: "The model is mistaken", unclear: "The policy is unclear here",
    },
    note: "Note",
    skip: "Skip",
    undo: "Undo",
    second_opinion: "Second opinion",
    add_to_list: "Add to list",
    legal_hold: "Legal hold",
    withheld: "Withheld: list {list}",
    opened: "opened {ago}",
    still: "Still {number} of {count}",
    image: {
      alt: "The picture of this case, hidden until you ask for it",
      hold: "Hold Space or press here to see",
      click: "Press V or click to see",
      withheld: "This picture is withheld",
      withheld_hint: "It matches a list of material that is never stored or shown.",
      no_procedure: "Your operator has written no procedure (REVIEW_WITHHELD_PROCEDURE). Ask before you decide.",
      gone: "The picture is gone",
      gone_hint: "It was deleted or has expired. What is known of it is still here.",
      none: "No picture is kept",
      none_hint: "This gateway keeps no pictures for review. Find it by its external id where you keep yours.",
      failed: "The picture could not be loaded",
      failed_hint: "It may be there when you try again.",
    },
    key: {
      skip: "Skip: leave it to others", undo: "Undo your latest verdict", category: "Toggle a category", note: "Write a note (Escape leaves it)",
      second: "Ask for a second opinion with the verdict", list: "Put the picture on a hash list with the verdict",
      reveal: "Hold to see the picture (Space too)", back: "Still before", on: "Next still",
    },
    said: {
      allow: "Allowed: {title}.", block: "Blocked: {title}.", second: "A second opinion is asked for: {title}.",
      skipped: "Skipped: {title}.", undone: "Taken back: {title}.", lost: "Somebody else has this case by now: {title}.",
      not_sent_yet: "Your verdict is not sent yet; it can be taken back when it is.",
      still_blocked: "{title} is allowed, but the list {list} still blocks it.",
    },
    settings: {
      title: "Settings", blur: "Blur pictures until I ask", grey: "Show pictures in grey until I ask", boxes: "Draw evidence on the picture",
      shortcuts: "Single-key shortcuts", reveal: "Show the picture", reveal_hold: "While I hold a key or the pointer",
      reveal_click: "By a click or key, until the next case", break_after: "Remind me of a break after (minutes)",
      never: "Nothing plays by itself here, and nothing makes a sound. These settings stay in this browser.",
    },
    break: {
      title: "Time for a break", text: "You have worked for {minutes} minutes and decided {cases} cases. Look away from the screen for a while.",
      take: "Take a break", later: "{minutes} more minutes",
    },
  },
  keys: { title: "Keyboard", help: "This help" },
};

/**
 * Return a text by its path, such as `nav.try`, with its slots filled.
 * @param {string} path
 * @param {Record<string, string | number>} [slots]
 */
export function t(path, slots = {}) {
  /** @type {any} */
  let found = texts;
  for (const part of path.split(".")) found = found?.[part];
  if (typeof found !== "string") return path;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in slots ? String(slots[name]) : whole));
}

const language = document.documentElement.lang || "en";
// Made once: a table of decisions writes hundreds of them while it scrolls.
const percents = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });
const times = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

/** @param {number} value @param {number} [digits] */
export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** @param {number} value 0..1 */
export const percent = (value) => percents.format(value);

/** @param {string} iso a time as the API writes it */
export const time = (iso) => times.format(new Date(iso));

/** How long ago, such as “5 min ago”. @param {string} iso */
export function ago(iso) {
  const seconds = (new Date(iso).getTime() - Date.now()) / 1000;
  const format = new Intl.RelativeTimeFormat(language, { style: "narrow" });
  /** @type {[number, Intl.RelativeTimeFormatUnit][]} */
  const units = [[86_400, "day"], [3600, "hour"], [60, "minute"]];
  for (const [size, unit] of units) if (Math.abs(seconds) >= size) return format.format(Math.round(seconds / size), unit);
  return format.format(Math.round(seconds), "second");
}
