-- records.db as icl-harness made it before formats and groups (user_version 0): written by hand.
CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
INSERT INTO texts VALUES (1, X'01', 'Even or odd?' || char(10));
INSERT INTO texts VALUES (2, X'02', 'n 1 -> odd' || char(10));
INSERT INTO texts VALUES (3, X'03', 'n 2 -> even' || char(10));
INSERT INTO texts VALUES (4, X'04', 'n 100 ->');
INSERT INTO texts VALUES (5, X'05', 'n 101 ->');
CREATE TABLE nodes (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, shot_ids TEXT NOT NULL, text_ids TEXT NOT NULL);
INSERT INTO nodes VALUES (1, 'aa', '[]', '[1]');
INSERT INTO nodes VALUES (2, 'bb', '["train1", "train2"]', '[1, 2, 3]');
INSERT INTO nodes VALUES (3, 'cc', '["train1"]', '[1, 2]');
CREATE TABLE cells (
    id INTEGER PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, mode TEXT NOT NULL, variant TEXT NOT NULL,
    shots INTEGER NOT NULL, draw INTEGER NOT NULL, metric TEXT NOT NULL,
    UNIQUE (task, model, mode, variant, shots, draw)
);
INSERT INTO cells VALUES (1, 'toy', 'm', 'supervised', 'default', 0, 0, 'accuracy');
INSERT INTO cells VALUES (2, 'toy', 'm', 'supervised', 'default', 2, 0, 'accuracy');
INSERT INTO cells VALUES (3, 'toy', 'm', 'supervised', 'default', 1, 0, 'accuracy');
CREATE TABLE records (
    cell INTEGER NOT NULL REFERENCES cells, query_id TEXT NOT NULL, sample INTEGER NOT NULL,
    node INTEGER NOT NULL REFERENCES nodes, query_text INTEGER NOT NULL REFERENCES texts, shots_used INTEGER NOT NULL,
    status TEXT NOT NULL, answer TEXT, parsed TEXT, score REAL, error TEXT, reused INTEGER NOT NULL,
    prompt_tokens INTEGER, cached_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL,
    PRIMARY KEY (cell, query_id, sample)
) WITHOUT ROWID;
INSERT INTO records VALUES (1, 'test100', 0, 1, 4, 0, 'ok', ' even', 'even', 1.0, NULL, 0, 9, 0, 1, 0.5, 0.1);
INSERT INTO records VALUES (1, 'test101', 0, 1, 5, 0, 'failed', NULL, NULL, NULL, '503', 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO records VALUES (2, 'test100', 0, 2, 4, 2, 'ok', ' odd', 'odd', 0.0, NULL, 0, 15, 9, 1, 0.25, 0.1);
INSERT INTO records VALUES (2, 'test101', 0, 2, 5, 2, 'ok', ' odd', 'odd', 1.0, NULL, 0, 15, 9, 1, 0.25, 0.1);
INSERT INTO records VALUES (3, 'test100', 0, 3, 4, 1, 'ok', '?', NULL, 0.0, NULL, 0, 12, 9, 1, 0.25, 0.1);
CREATE INDEX records_by_prompt ON records (node, query_text);
