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
CREATE INDEX decisions_by_external_id ON decisions (external_id, at, id) WHERE external_id IS NOT NULL;
CREATE INDEX decisions_by_image ON decisions (image_sha256, at, id);
CREATE INDEX decisions_by_outcome ON decisions (outcome, at, id);
CREATE INDEX decisions_by_policy ON decisions (policy, at, id);
CREATE INDEX decisions_by_time ON decisions (at, id);
CREATE INDEX decisions_reviewed ON decisions (at, id) WHERE reviewed_at IS NOT NULL;
CREATE INDEX decisions_with_a_shadow ON decisions (shadow_differs, at, id) WHERE shadow_differs IS NOT NULL;
CREATE INDEX decisions_with_vectors ON decisions (at, id) WHERE vectors IS NOT NULL;
CREATE TABLE lists (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    max_distance INTEGER NOT NULL,
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
 WITHOUT ROWID

;
CREATE TABLE list_entries (
    list_id INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (list_id, hash)
)
 WITHOUT ROWID

;
CREATE TABLE leases (
    work TEXT NOT NULL,
    owner TEXT NOT NULL,
    held_until DATETIME NOT NULL,
    PRIMARY KEY (work)
);
CREATE TABLE idempotency_keys (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    token TEXT NOT NULL,
    until DATETIME NOT NULL,
    external_ids TEXT,
    answer BLOB,
    PRIMARY KEY (owner, key)
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
CREATE TABLE rollouts (
    name TEXT NOT NULL,
    bundle_id TEXT NOT NULL,
    shadow TEXT,
    candidate INTEGER,
    share DOUBLE NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (name, bundle_id)
);
CREATE TABLE fired_categories (
    category TEXT NOT NULL,
    at DATETIME NOT NULL,
    decision_id TEXT NOT NULL,
    PRIMARY KEY (category, at, decision_id),
    CONSTRAINT fired_in_a_decision FOREIGN KEY(decision_id) REFERENCES decisions (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE INDEX fired_categories_by_decision ON fired_categories (decision_id);
CREATE TABLE feedback (
    id INTEGER NOT NULL,
    decision_id TEXT NOT NULL,
    at DATETIME NOT NULL,
    decision TEXT NOT NULL,
    categories JSON NOT NULL,
    note TEXT NOT NULL,
    "key" TEXT,
    reviewer TEXT,
    list TEXT,
    PRIMARY KEY (id),
    CONSTRAINT feedback_on_a_decision FOREIGN KEY(decision_id) REFERENCES decisions (id) ON DELETE CASCADE
);
CREATE INDEX feedback_by_decision ON feedback (decision_id, at, id);
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
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES ('0.1.0');
INSERT INTO revisions VALUES (1, 0, 0);
