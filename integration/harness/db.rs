//! Shared clusters, and a database and a role for each test.

use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use turnpike::app::cluster::{Cluster, ClusterOptions, Server};

/// The database that every test's database is a copy of.
const TEMPLATE: &str = "turnpike_template";
/// Rows of `audit_log` in every test's database.
pub const SAMPLE_EVENTS: u64 = 1000;

/// A primary without replicas. Tests that stop or reconfigure servers start a cluster of their own.
pub fn cluster() -> &'static Cluster {
    static SHARED: LazyLock<Cluster> = LazyLock::new(|| start(if is_split() { 2 } else { 0 }));
    &SHARED
}

/// Whether all tests run with their databases on a cluster (`TURNPIKE_TEST_SPLIT=1`): none may tell the difference.
pub fn is_split() -> bool {
    std::env::var_os("TURNPIKE_TEST_SPLIT").is_some()
}

/// A primary with two replicas, shared in the same way.
pub fn replicated() -> &'static Cluster {
    static SHARED: LazyLock<Cluster> = LazyLock::new(|| start(2));
    &SHARED
}

fn start(replicas: usize) -> Cluster {
    let options = ClusterOptions { replicas, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).unwrap_or_else(|e| panic!("no cluster to test with: {e}"));
    prepare_template(cluster.primary());
    cluster
}

/// The sample audit log with a thousand events, open to every role.
fn prepare_template(primary: &Server) {
    let run = |database: &str, script: &str| {
        primary.psql(database, script).unwrap_or_else(|e| panic!("cannot prepare the template: {e}"))
    };
    run("postgres", &format!("CREATE DATABASE {TEMPLATE}"));
    let schema = include_str!("../../migrations/sample/001_schema.sql");
    let generate = include_str!("../../migrations/sample/002_generate.sql");
    run(
        TEMPLATE,
        &format!("{schema}{generate}CALL sample_people(200); CALL sample_events({SAMPLE_EVENTS});"),
    );
    run(TEMPLATE, "GRANT ALL ON SCHEMA public TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC");
}

/// A database with the sample audit log, and a role that owns it, that no other test knows of. Dropped with the value.
#[derive(Debug)]
pub struct Db {
    /// Name of the database.
    pub name: String,
    /// The role that owns it.
    pub user: String,
    /// The role's password.
    pub password: String,
    cluster: &'static Cluster,
}

impl Db {
    /// Makes one in the shared cluster.
    pub fn new() -> Self {
        Self::in_cluster(cluster())
    }

    /// Makes one in the given cluster; replicas have it a moment later ([`Cluster::wait_replayed`]).
    pub fn in_cluster(cluster: &'static Cluster) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let n = COUNT.fetch_add(1, Relaxed);
        let name = format!("t{n}");
        let user = format!("u{n}");
        let password = format!("secret-{n}-{}", process::id());
        let db = Db { name, user, password, cluster };
        let Db { name, user, password, .. } = &db;
        db.admin(&format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'"));
        db.admin(&format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {user}"));
        db
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// A connection string past the proxy.
    pub fn direct_url(&self) -> String {
        self.cluster.primary().url(&self.user, &self.password, &self.name)
    }

    /// Runs a script in it as the superuser and returns what `psql -At` prints.
    #[track_caller]
    pub fn psql(&self, script: &str) -> String {
        self.cluster.primary().psql(&self.name, script).unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    /// Makes another role with the same password.
    pub fn role(&self, suffix: &str) -> String {
        let role = format!("{}_{suffix}", self.user);
        self.admin(&format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", self.password));
        role
    }

    /// What pg_authid keeps instead of the role's password.
    pub fn verifier(&self) -> String {
        self.admin(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", self.user))
    }

    fn admin(&self, script: &str) -> String {
        self.cluster.primary().psql("postgres", script).unwrap_or_else(|e| panic!("{script}: {e}"))
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // Roles stay: they cost nothing, and something else may depend on them.
        let script = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = self.cluster.primary().psql("postgres", &script);
    }
}
