-- Fills the sample database. The same seed and the same end of time give the same events: chance is a hash of the
-- seed and the event's number, never random().

-- A number in [0, 1) for the i-th thing, one for each purpose that chance is needed for.
CREATE FUNCTION sample_chance(seed bigint, i bigint, purpose int) RETURNS float8
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint8extended(i, seed * 64 + purpose) & 4503599627370495)::float8 / 4503599627370496.0;

-- A rank in 1..n of which rank k comes up about 1/k as often as the first: Zipf's law.
CREATE FUNCTION sample_rank(chance float8, n float8) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(exp(chance * ln(n + 1)))::bigint;

CREATE PROCEDURE sample_people(people int DEFAULT 2000, seed bigint DEFAULT 42)
    LANGUAGE sql
    BEGIN ATOMIC
        INSERT INTO organizations (id, name, kind, region)
        SELECT i,
               (ARRAY['St. Anne', 'Riverside', 'Lakeview', 'Mercy', 'Northgate', 'Cedar Hill', 'Harbor', 'Summit',
                      'Bellevue', 'Kingsway'])[1 + (i - 1) % 10]
                   || CASE WHEN i <= 10 THEN ' Hospital' ELSE ' Clinic' END,
               CASE WHEN i <= 10 THEN 'hospital' WHEN i <= 17 THEN 'clinic' WHEN i <= 19 THEN 'laboratory'
                    ELSE 'insurer' END,
               (ARRAY['north', 'east', 'south', 'west'])[1 + i % 4]
        FROM generate_series(1, 20) AS i;

        -- Hospitals are larger than clinics: the organization's rank follows Zipf's law as well.
        INSERT INTO principals (id, organization_id, department, name, email, is_service)
        SELECT i, sample_rank(sample_chance(seed, i, 40), 20), d.name, n.name,
               CASE WHEN d.name = 'systems' THEN 'service' ELSE 'user' END || i || '@example.org',
               d.name = 'systems'
        FROM generate_series(1, people) AS i
        CROSS JOIN LATERAL (
            SELECT (ARRAY['Ada', 'Ben', 'Chidi', 'Dana', 'Elif', 'Femi', 'Grace', 'Hugo', 'Ines', 'Jonas', 'Kavya',
                          'Liam', 'Mei', 'Noor', 'Omar', 'Priya'])[1 + floor(sample_chance(seed, i, 41) * 16)::int]
                || ' '
                || (ARRAY['Abbott', 'Brandt', 'Castillo', 'Dubois', 'Eriksen', 'Fischer', 'Garcia', 'Haddad',
                          'Ivanova', 'Jensen', 'Kim', 'Larsen', 'Moreau', 'Nguyen', 'Okafor',
                          'Patel'])[1 + floor(sample_chance(seed, i, 42) * 16)::int] AS name
        ) n
        JOIN (
            SELECT name, sum(headcount) OVER (ORDER BY name) - headcount AS above,
                   sum(headcount) OVER (ORDER BY name) AS upto
            FROM departments
        ) d ON floor(sample_chance(seed, i, 43) * 100) >= d.above AND floor(sample_chance(seed, i, 43) * 100) < d.upto;
    END;

-- Appends that many events, in order of time, spread over the days before `until`. Needs sample_people() first.
CREATE PROCEDURE sample_events(events bigint, seed bigint DEFAULT 42, days int DEFAULT 91,
                               until timestamptz DEFAULT now())
    LANGUAGE sql
    SET work_mem = '256MB'
    SET synchronous_commit = off
    BEGIN ATOMIC
        INSERT INTO audit_log (ts, principal_id, organization_id, action, status, target_type, target_id,
                               data_classification, session_context, details)
        -- Last, once they are in order: the wide columns.
        SELECT ts, principal_id, organization_id, action,
               CASE WHEN verdict < CASE WHEN action IN ('break_glass', 'export') THEN 0.12
                                        WHEN at_night AND NOT is_service THEN 0.05
                                        ELSE 0.02 END THEN 'denied'
                    WHEN verdict > CASE WHEN action = 'login' THEN 0.93 ELSE 0.99 END THEN 'failed'
                    ELSE 'success' END,
               target_type,
               target_type || '-' || target,
               CASE WHEN target_type IN ('report', 'system') THEN 'internal'
                    WHEN target_type = 'account' THEN 'PII'
                    ELSE 'PHI' END,
               jsonb_build_object('ip', '10.' || organization_id || '.' || principal_id / 250 || '.' || principal_id % 250,
                                  'session', to_hex(hashint8extended(principal_id, ts::date - date '2000-01-01')),
                                  'mfa', NOT is_service),
               CASE WHEN action IN ('export', 'search') THEN jsonb_build_object('rows', 1 + floor(exp(verdict * 9))::int)
                    WHEN action = 'break_glass' THEN jsonb_build_object('reason', 'emergency')
                    ELSE '{}' END
        FROM (
            SELECT c.ts, p.id AS principal_id, p.organization_id, p.is_service, d.verdict, d.target,
                   extract(hour FROM c.ts AT TIME ZONE 'UTC') NOT BETWEEN 6 AND 21 AS at_night,
                   CASE WHEN d.deed < 0.58 THEN 'view' WHEN d.deed < 0.70 THEN 'update' WHEN d.deed < 0.80 THEN 'search'
                        WHEN d.deed < 0.88 THEN 'create' WHEN d.deed < 0.94 THEN 'login' WHEN d.deed < 0.97 THEN 'print'
                        WHEN d.deed < 0.99 THEN 'export' WHEN d.deed < 0.996 THEN 'delete' ELSE 'break_glass' END AS action,
                   CASE WHEN d.deed >= 0.88 AND d.deed < 0.94 THEN 'account'
                        WHEN p.department = 'radiology' AND d.object < 0.6 THEN 'imaging_study'
                        WHEN p.department = 'laboratory' AND d.object < 0.7 THEN 'lab_result'
                        WHEN p.department = 'pharmacy' AND d.object < 0.7 THEN 'medication_order'
                        WHEN p.department = 'billing' AND d.object < 0.75 THEN 'claim'
                        WHEN p.department = 'systems' AND d.object < 0.6 THEN 'system'
                        WHEN p.department = 'research' AND d.object < 0.5 THEN 'report'
                        WHEN d.object < 0.80 THEN 'patient'
                        WHEN d.object < 0.95 THEN 'encounter'
                        ELSE 'report' END AS target_type
            FROM (
                SELECT i,
                       sample_rank(sample_chance(seed, i, 0), (SELECT count(*) FROM principals)) AS principal,
                       sample_chance(seed, i, 1) AS week,
                       sample_chance(seed, i, 2) AS weekday,
                       sample_chance(seed, i, 3) AS shift,
                       sample_chance(seed, i, 4) AS early,
                       sample_chance(seed, i, 5) AS late,
                       sample_chance(seed, i, 6) AS deed,
                       sample_chance(seed, i, 7) AS object,
                       sample_rank(sample_chance(seed, i, 8), 200000) AS target,
                       sample_chance(seed, i, 9) AS verdict
                FROM generate_series(1, events) AS i
                OFFSET 0
            ) d
            JOIN principals p ON p.id = d.principal
            JOIN departments w ON w.name = p.department
            CROSS JOIN LATERAL (
                SELECT CASE WHEN d.shift < w.round_clock THEN d.early * 24
                            -- The mean of two chances is a busy noon with quiet edges.
                            ELSE w.opens + (w.closes - w.opens) * (d.early + d.late) / 2 END AS hour,
                       CASE WHEN d.weekday < w.weekend THEN 5 + floor(d.weekday / w.weekend * 2)
                            ELSE floor((d.weekday - w.weekend) / (1 - w.weekend) * 5) END AS day
                OFFSET 0
            ) t
            CROSS JOIN LATERAL (
                SELECT date_trunc('week', until, 'UTC') - make_interval(weeks => floor(d.week * (days / 7))::int)
                       + make_interval(secs => floor((t.day * 24 + t.hour) * 3600 * 1000) / 1000) AS ts
                OFFSET 0
            ) f
            CROSS JOIN LATERAL (
                -- What is left of this week has not happened yet: it becomes the same days of the oldest week.
                SELECT CASE WHEN f.ts < until THEN f.ts ELSE f.ts - make_interval(weeks => days / 7) END AS ts
                OFFSET 0
            ) c
            ORDER BY c.ts
        ) e;
    END;
