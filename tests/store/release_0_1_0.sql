-- The tables as release 0.1.0 makes them in SQLite; test_migrations.py brings them up to date. Never changed after the release.
CREATE TABLE revisions (
    id INTEGER NOT NULL,
    value BIGINT NOT NULL,
    lists BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE resources (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    latest INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE TABLE rollouts (
    name TEXT NOT NULL,
    bundle_id TEXT NOT NULL,
    shadow TEXT,
    candidate INTEGER,
    share DOUBLE NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (name, bundle_id)
);
CREATE TABLE decisions (
    id TEXT NOT NULL,
    at DATETIME NOT NULL,
    request_id TEXT NOT NULL,
    external_id TEXT,
    image_sha256 TEXT NOT NULL,
    image_pdq TEXT,
    policy TEXT NOT NULL,
    policy_version INTEGER NOT NULL,
    bundle_id TEXT NOT NULL,
    decision TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reviewed_at DATETIME,
    reviewed_by TEXT,
    reviewer TEXT,
    shadow_differs BOOLEAN,
    categories JSON NOT NULL,
    detail JSON NOT NULL,
    vectors BLOB,
    PRIMARY KEY (id)
);
CREATE INDEX decisions_by_decision ON decisions (decision, at, id);
CREATE INDEX decisions_with_vectors ON decisions (at, id) WHERE vectors IS NOT NULL;
CREATE INDEX decisions_by_outcome ON decisions (outcome, at, id);
CREATE INDEX decisions_by_image ON decisions (image_sha256, at, id);
CREATE INDEX decisions_reviewed ON decisions (at, id) WHERE reviewed_at IS NOT NULL;
CREATE INDEX decisions_by_policy ON decisions (policy, at, id);
CREATE INDEX decisions_by_external_id ON decisions (external_id, at, id) WHERE external_id IS NOT NULL;
CREATE INDEX decisions_by_time ON decisions (at, id);
CREATE INDEX decisions_with_a_shadow ON decisions (shadow_differs, at, id) WHERE shadow_differs IS NOT NULL;
CREATE TABLE lists (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    max_distance INTEGER NOT NULL,
    withhold BOOLEAN DEFAULT 0 NOT NULL,
    entries BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    logged_since BIGINT DEFAULT '0' NOT NULL,
    logged INTEGER DEFAULT '0' NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX lists_by_name ON lists (name);
CREATE TABLE list_parts (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    list_id INTEGER NOT NULL,
    revision BIGINT,
    touched DATETIME NOT NULL
);
CREATE INDEX list_parts_by_list ON list_parts (list_id);
CREATE TABLE list_changes (
    list_id INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    hash BLOB NOT NULL,
    present BOOLEAN NOT NULL,
    PRIMARY KEY (list_id, revision, hash)
)
 WITHOUT ROWID;
CREATE TABLE list_entries (
    list_id INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (list_id, hash)
)
 WITHOUT ROWID;
CREATE TABLE leases (
    work TEXT NOT NULL,
    owner TEXT NOT NULL,
    held_until DATETIME NOT NULL,
    PRIMARY KEY (work)
);
CREATE TABLE idempotency_keys (
    owner TEXT NOT NULL,
    "key" TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    token TEXT NOT NULL,
    until DATETIME NOT NULL,
    external_ids TEXT,
    answer BLOB,
    PRIMARY KEY (owner, "key")
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (until);
CREATE TABLE installation (
    id INTEGER NOT NULL,
    secret BLOB NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE audit (
    id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER,
    detail JSON NOT NULL,
    request_id TEXT,
    PRIMARY KEY (id)
);
CREATE TABLE sessions (
    id TEXT NOT NULL,
    token_sha256 BLOB NOT NULL,
    key_sha256 BLOB,
    issuer TEXT,
    name TEXT NOT NULL,
    roles JSON NOT NULL,
    reviewer TEXT,
    secure BOOLEAN NOT NULL,
    created_at DATETIME NOT NULL,
    seen_at DATETIME NOT NULL,
    expires_at DATETIME NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX sessions_by_time ON sessions (expires_at);
CREATE UNIQUE INDEX sessions_by_token ON sessions (token_sha256);
CREATE TABLE key_uses (
    name TEXT NOT NULL,
    at DATETIME NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE replicas (
    id TEXT NOT NULL,
    started_at DATETIME NOT NULL,
    seen_at DATETIME NOT NULL,
    ready BOOLEAN NOT NULL,
    degraded JSON NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE jobs (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    bundle_id TEXT NOT NULL,
    request JSON NOT NULL,
    progress JSON NOT NULL,
    created_at DATETIME NOT NULL,
    created_by TEXT,
    started_at DATETIME,
    ended_at DATETIME,
    attempts INTEGER NOT NULL,
    token TEXT,
    held_until DATETIME,
    error JSON,
    result JSON,
    PRIMARY KEY (id)
);
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE TABLE labelled_sets (
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    bundle_id TEXT,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE legal_holds (
    external_id TEXT NOT NULL,
    at DATETIME NOT NULL,
    reason TEXT NOT NULL,
    "key" TEXT,
    PRIMARY KEY (external_id)
);
CREATE TABLE review_images (
    decision_id TEXT NOT NULL,
    external_id TEXT,
    at DATETIME NOT NULL,
    kept_at DATETIME,
    deleted_at DATETIME,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    stills JSON NOT NULL,
    PRIMARY KEY (decision_id)
);
CREATE INDEX review_images_by_external_id ON review_images (external_id);
CREATE INDEX review_images_by_time ON review_images (at);
CREATE TABLE webhook_events (
    number INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    event TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    external_id TEXT,
    order_key TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at DATETIME NOT NULL,
    next_at DATETIME,
    leased_by TEXT,
    leased_until DATETIME,
    last_error TEXT,
    delivered_at DATETIME,
    PRIMARY KEY (number)
);
CREATE INDEX webhook_events_by_state ON webhook_events (state, number);
CREATE INDEX webhook_events_by_external_id ON webhook_events (external_id);
CREATE INDEX webhook_events_in_order ON webhook_events (order_key, number) WHERE state = 'waiting';
CREATE INDEX webhook_events_due ON webhook_events (next_at, number) WHERE state = 'waiting';
CREATE UNIQUE INDEX webhook_events_by_message ON webhook_events (message_id);
CREATE TABLE versions (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    body JSON NOT NULL,
    pins JSON NOT NULL,
    bundle_id TEXT,
    digest TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (kind, name, number),
    CONSTRAINT versions_of_a_resource FOREIGN KEY(kind, name) REFERENCES resources (kind, name)
);
CREATE TABLE fired_categories (
    category TEXT NOT NULL,
    at DATETIME NOT NULL,
    decision_id TEXT NOT NULL,
    PRIMARY KEY (category, at, decision_id),
    CONSTRAINT fired_in_a_decision FOREIGN KEY(decision_id) REFERENCES decisions (id) ON DELETE CASCADE
)
 WITHOUT ROWID;
CREATE INDEX fired_categories_by_decision ON fired_categories (decision_id);
CREATE TABLE feedback (
    id INTEGER NOT NULL,
    decision_id TEXT NOT NULL,
    at DATETIME NOT NULL,
    kind TEXT NOT NULL,
    decision TEXT,
    categories JSON NOT NULL,
    note TEXT NOT NULL,
    reason TEXT NOT NULL,
    "key" TEXT,
    reviewer TEXT,
    list TEXT,
    undone BOOLEAN NOT NULL,
    token TEXT,
    "before" JSON,
    PRIMARY KEY (id),
    CONSTRAINT feedback_on_a_decision FOREIGN KEY(decision_id) REFERENCES decisions (id) ON DELETE CASCADE
);
CREATE INDEX feedback_by_decision ON feedback (decision_id, at, id);
CREATE TABLE job_files (
    job_id TEXT NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (job_id, name),
    CONSTRAINT file_of_a_job FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE TABLE labelled_images (
    set_name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    labels JSON NOT NULL,
    "group" TEXT,
    slices JSON NOT NULL,
    added_at DATETIME NOT NULL,
    places JSON NOT NULL,
    warnings JSON NOT NULL,
    vectors BLOB NOT NULL,
    PRIMARY KEY (set_name, sha256),
    CONSTRAINT image_of_a_set FOREIGN KEY(set_name) REFERENCES labelled_sets (name) ON DELETE CASCADE
);
CREATE TABLE review_cases (
    decision_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    opened_at DATETIME NOT NULL,
    closed_at DATETIME,
    risk DOUBLE NOT NULL,
    margin DOUBLE NOT NULL,
    policy TEXT NOT NULL,
    "key" TEXT,
    claimed_by TEXT,
    claimed_at DATETIME,
    claimed_until DATETIME,
    token TEXT,
    PRIMARY KEY (decision_id),
    CONSTRAINT case_of_a_decision FOREIGN KEY(decision_id) REFERENCES decisions (id) ON DELETE CASCADE
);
CREATE INDEX review_cases_uncertain ON review_cases (margin, decision_id) WHERE closed_at IS NULL;
CREATE INDEX review_cases_by_reason ON review_cases (reason, opened_at, decision_id) WHERE closed_at IS NULL;
CREATE INDEX review_cases_closed ON review_cases (closed_at, decision_id) WHERE closed_at IS NOT NULL;
CREATE INDEX review_cases_riskiest ON review_cases (risk DESC, decision_id) WHERE closed_at IS NULL;
CREATE INDEX review_cases_by_claim ON review_cases (claimed_by, claimed_until) WHERE closed_at IS NULL;
CREATE INDEX review_cases_oldest ON review_cases (opened_at, decision_id) WHERE closed_at IS NULL;
CREATE TABLE activations (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    bundle_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (kind, name, bundle_id),
    CONSTRAINT activation_of_a_version FOREIGN KEY(kind, name, version) REFERENCES versions (kind, name, number) ON DELETE CASCADE
);
CREATE TABLE label_vectors (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    text_checksum TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (kind, name, number, text_checksum),
    CONSTRAINT label_vectors_of_a_version FOREIGN KEY(kind, name, number) REFERENCES versions (kind, name, number) ON DELETE CASCADE
);
CREATE TABLE review_skips (
    decision_id TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    until DATETIME NOT NULL,
    PRIMARY KEY (decision_id, reviewer),
    CONSTRAINT skip_of_a_case FOREIGN KEY(decision_id) REFERENCES review_cases (decision_id) ON DELETE CASCADE
);
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES ('0.1.0');
INSERT INTO revisions VALUES (1, 0, 0);
