//! The sample audit log: what the generator promises.

use crate::harness::{Db, SAMPLE_EVENTS};

/// A digest of all rows but for their ids.
const DIGEST: &str =
    "SELECT count(*), md5(string_agg((to_jsonb(a) - 'id')::text, ',' ORDER BY id)) FROM audit_log a";

fn fill(db: &Db, seed: u32) -> String {
    db.psql("TRUNCATE audit_log");
    db.psql(&format!("CALL sample_events(2000, {seed}, 91, '2026-01-07 15:00Z')"));
    db.psql(DIGEST)
}

#[test]
fn a_seed_decides_everything() {
    let (a, b) = (Db::new(), Db::new());
    let first = fill(&a, 7);
    assert!(first.starts_with("2000|"), "{first}");
    assert_eq!(first, fill(&b, 7));
    assert_ne!(first, fill(&b, 8));
}

#[test]
fn events_come_in_order_and_not_from_the_future() {
    let db = Db::new();
    let disorder =
        "SELECT count(*) FROM (SELECT ts < lag(ts) OVER (ORDER BY id) AS wrong FROM audit_log) t WHERE wrong";
    assert_eq!(db.psql(disorder), "0");
    assert_eq!(db.psql("SELECT count(*) FROM audit_log WHERE ts > now()"), "0");
}

#[test]
fn people_work_as_people_do() {
    let db = Db::new();
    db.psql("CALL sample_events(20000)");
    let share = |condition: &str| -> f64 {
        let sql =
            format!("SELECT avg(({condition})::int) FROM audit_log JOIN principals p ON p.id = principal_id");
        db.psql(&sql).parse().expect("a number")
    };
    assert!(share("extract(isodow FROM ts) IN (6, 7)") < 0.25, "weekends are quieter");
    assert!(
        share("extract(hour FROM ts AT TIME ZONE 'UTC') BETWEEN 8 AND 17") > 0.6,
        "most work is done by day"
    );
    assert!(share("principal_id <= 10") > 0.3, "few people do much of it");
    assert!((0.01..0.08).contains(&share("status = 'denied'")));
    assert!(share("data_classification = 'PHI'") > 0.7);
}

#[test]
fn each_volatility_does_what_it_says() {
    let db = Db::new();
    assert_eq!(db.psql("SELECT risk_score('export', 'denied', 'PHI')"), "80");
    let before: i64 = db.psql("SELECT accesses_since(1, '1 hour')").parse().expect("a count");
    assert_eq!(
        db.psql("SELECT record_event(1, 'view', 'patient', 'patient-1')"),
        (SAMPLE_EVENTS + 1).to_string()
    );
    assert_eq!(db.psql("SELECT accesses_since(1, '1 hour')"), (before + 1).to_string());
    assert_eq!(db.psql("SELECT count(*) > 0 FROM recent_phi_access WHERE target_id = 'patient-1'"), "t");
    assert_eq!(db.psql("SELECT sum(events) FROM daily_activity"), (SAMPLE_EVENTS + 1).to_string());
}
