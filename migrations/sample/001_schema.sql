-- A sample database: the audit log of a group of hospitals. Used by the demo, the tests and the benchmarks.

CREATE TABLE organizations (
    id     int  PRIMARY KEY,
    name   text NOT NULL UNIQUE,
    kind   text NOT NULL CHECK (kind IN ('hospital', 'clinic', 'laboratory', 'insurer')),
    region text NOT NULL
);

-- When the people of a department work. Shares are parts of all their events.
CREATE TABLE departments (
    name          text   PRIMARY KEY,
    opens         float8 NOT NULL,          -- hour of the day
    closes        float8 NOT NULL,
    round_clock   float8 NOT NULL,          -- share of events at any hour of the day
    weekend       float8 NOT NULL,          -- share of events on Saturday and Sunday; 2/7 is no difference
    headcount     int    NOT NULL           -- of a hundred people
);

INSERT INTO departments (name, opens, closes, round_clock, weekend, headcount) VALUES
    ('emergency',  7, 23, 0.55, 0.30, 18),
    ('nursing',    6, 22, 0.40, 0.26, 30),
    ('radiology',  8, 18, 0.10, 0.12, 10),
    ('laboratory', 7, 19, 0.15, 0.14, 10),
    ('pharmacy',   8, 20, 0.08, 0.15,  8),
    ('billing',    8, 17, 0.01, 0.02, 14),
    ('research',   9, 18, 0.04, 0.05,  6),
    ('systems',    1,  5, 0.70, 0.28,  4);

CREATE TABLE principals (
    id              bigint  PRIMARY KEY,
    organization_id int     NOT NULL REFERENCES organizations,
    department      text    NOT NULL REFERENCES departments,
    name            text    NOT NULL,
    email           text    NOT NULL UNIQUE,
    is_service      boolean NOT NULL DEFAULT false
);

CREATE INDEX principals_by_organization ON principals (organization_id);

CREATE TABLE audit_log (
    id                  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ts                  timestamptz NOT NULL DEFAULT clock_timestamp(),
    principal_id        bigint      NOT NULL,
    organization_id     int         NOT NULL,
    action              text        NOT NULL,
    status              text        NOT NULL CHECK (status IN ('success', 'denied', 'failed')),
    target_type         text        NOT NULL,
    target_id           text        NOT NULL,
    data_classification text        NOT NULL CHECK (data_classification IN ('PHI', 'PII', 'internal')),
    session_context     jsonb       NOT NULL DEFAULT '{}',
    details             jsonb       NOT NULL DEFAULT '{}'
);

COMMENT ON TABLE audit_log IS 'Who did what to which record. Only ever appended to; no foreign keys, since an entry outlives what it names.';

-- Entries come in order of time, so a block range index does for scans of whole days.
CREATE INDEX audit_log_by_day ON audit_log USING brin (ts) WITH (pages_per_range = 32);
CREATE INDEX audit_log_by_principal ON audit_log (principal_id, ts DESC);
CREATE INDEX audit_log_by_organization ON audit_log (organization_id, ts DESC);
CREATE INDEX audit_log_by_target ON audit_log (target_id);
CREATE INDEX audit_log_refused ON audit_log (ts DESC) WHERE status <> 'success';

CREATE VIEW recent_phi_access AS
    SELECT a.id, a.ts, p.name AS principal, p.department, o.name AS organization,
           a.action, a.status, a.target_type, a.target_id
    FROM audit_log a
    JOIN principals p ON p.id = a.principal_id
    JOIN organizations o ON o.id = a.organization_id
    WHERE a.data_classification = 'PHI' AND a.ts >= now() - interval '24 hours';

CREATE VIEW daily_activity AS
    SELECT a.organization_id, o.name AS organization, (a.ts AT TIME ZONE 'UTC')::date AS day,
           count(*) AS events,
           count(*) FILTER (WHERE a.data_classification = 'PHI') AS phi_events,
           count(*) FILTER (WHERE a.status = 'denied') AS denied,
           count(DISTINCT a.principal_id) AS principals
    FROM audit_log a
    JOIN organizations o ON o.id = a.organization_id
    GROUP BY a.organization_id, o.name, (a.ts AT TIME ZONE 'UTC')::date;

-- Immutable: the same for the same arguments, for ever.
CREATE FUNCTION risk_score(action text, status text, data_classification text) RETURNS int
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE action WHEN 'break_glass' THEN 60 WHEN 'export' THEN 40 WHEN 'delete' THEN 30 ELSE 5 END
         + CASE status WHEN 'denied' THEN 30 WHEN 'failed' THEN 10 ELSE 0 END
         + CASE data_classification WHEN 'PHI' THEN 10 WHEN 'PII' THEN 5 ELSE 0 END;

-- Stable: the same within one statement; it reads tables and the clock.
CREATE FUNCTION accesses_since(principal bigint, span interval) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
        SELECT count(*) FROM audit_log WHERE principal_id = principal AND ts >= now() - span;
    END;

-- Volatile: it writes. A SELECT that calls it is not a read.
CREATE FUNCTION record_event(principal bigint, action text, target_type text, target_id text,
                             status text DEFAULT 'success', details jsonb DEFAULT '{}') RETURNS bigint
    LANGUAGE sql VOLATILE
    BEGIN ATOMIC
        INSERT INTO audit_log (principal_id, organization_id, action, status, target_type, target_id,
                               data_classification, details)
        SELECT p.id, p.organization_id, record_event.action, record_event.status, record_event.target_type,
               record_event.target_id,
               CASE WHEN record_event.target_type IN ('report', 'system') THEN 'internal'
                    WHEN record_event.target_type = 'account' THEN 'PII'
                    ELSE 'PHI' END,
               record_event.details
        FROM principals p
        WHERE p.id = principal
        RETURNING id;
    END;
