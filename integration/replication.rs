//! Clusters: who is the primary, how far replicas are, and who serves a read, with servers that are promoted, stopped,
//! paused and cut off.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use turnpike::app::cluster::{Cluster as Servers, ClusterOptions, Server, StopMode};
use turnpike::cluster::{Cluster, Clusters, Member, Need, Refusal, State};
use turnpike::config::{Config, Consistency, Routing, check};
use turnpike::core::clock;
use turnpike::pool::Pools;
use turnpike::pool::wish::Wish;

use crate::harness::{Db, Proxy, ProxyOptions, cluster, eventually, pg, relay, replicated, rows, value};

/// The machinery of a cluster without a proxy around it.
struct Bed {
    cluster: Arc<Cluster>,
    clusters: Arc<Clusters>,
    pools: Arc<Pools>,
    config: Arc<ArcSwap<Config>>,
    prober: tokio::task::JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.prober.abort();
    }
}

fn config(members: &[(&str, u16)], user: &str, password: &str, lines: &str) -> Config {
    let mut text = format!(
        "[[user]]\nname = '{user}'\npassword = '{password}'\n[[database]]\nname = 'postgres'\ncluster = 'main'\n\
         [[cluster]]\nname = 'main'\nbackends = {:?}\n{lines}\n",
        members.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for (name, port) in members {
        text += &format!(
            "[[backend]]\nname = '{name}'\nhost = '127.0.0.1'\nport = {port}\nsslmode = 'disable'\n"
        );
    }
    check::parse(&text, Path::new("test.toml")).unwrap_or_else(|e| panic!("{e}"))
}

impl Bed {
    fn new(config: Config) -> Bed {
        let pools = Arc::new(Pools::new(&config).expect("nothing to go wrong"));
        Bed::over(config, pools)
    }

    fn over(config: Config, pools: Arc<Pools>) -> Bed {
        let clusters = Arc::new(Clusters::default());
        clusters.reload(&config, &pools);
        let cluster = clusters.get("main").expect("a database is on it");
        let config = Arc::new(ArcSwap::from_pointee(config));
        let prober = tokio::spawn({
            let (clusters, pools) = (clusters.clone(), pools.clone());
            async move { clusters.run(&pools).await }
        });
        Bed { cluster, clusters, pools, config, prober }
    }

    /// In front of a primary and its replicas, the primary last.
    fn to(servers: &Servers) -> Bed {
        let all: Vec<_> = servers.replicas().iter().chain([servers.primary()]).map(named).collect();
        Bed::new(config(&all, "postgres", servers.password(), ""))
    }

    fn member(&self, name: &str) -> Arc<Member> {
        self.cluster.members().iter().find(|m| m.name() == name).cloned().expect("a member of that name")
    }

    fn states(&self) -> String {
        self.cluster.members().iter().map(|m| m.state().label()).collect::<Vec<_>>().join(", ")
    }

    #[track_caller]
    fn becomes(&self, want: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.states() != want {
            assert!(Instant::now() < deadline, "not {want} but {}", self.states());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn primary(&self) -> Option<String> {
        self.cluster.primary().map(|m| m.name().to_string())
    }

    /// What a read must see after what has been acknowledged by now.
    fn need(&self) -> Need {
        Need::of(&Routing::default(), self.cluster.clock.now())
    }

    async fn reader(&self, need: &Need, patience: Duration) -> Option<String> {
        let deadline = clock::Instant::now() + patience;
        self.cluster.await_reader(need, deadline).await.map(|m| m.name().to_string())
    }
}

/// What is known of timelines outlives the process: a primary of the past that is all that is in reach is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_forget_timelines() {
    let servers = servers(1);
    let dir = tempfile::tempdir().expect("a directory");
    let all = [named(servers.primary()), named(&servers.replicas()[0])];
    let kept = |members: &[(&str, u16)]| {
        let mut config = config(members, "postgres", servers.password(), "");
        config.general.state_dir = Some(dir.path().to_path_buf());
        Bed::new(config)
    };
    let bed = kept(&all);
    bed.becomes("primary, replica");
    let file = dir.path().join("cluster-main.toml");
    eventually("it is kept", || file.exists());
    servers.primary().kill().expect("it is ours to kill");
    servers.replicas()[0].promote().unwrap_or_else(|e| panic!("{e}"));
    bed.becomes("unreachable, primary");
    eventually("the new timeline is kept", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("timeline = 2"))
    });
    drop(bed);
    servers.replicas()[0].stop(StopMode::Fast).expect("it stops");
    servers.primary().start().expect("it starts");
    let bed = kept(&all);
    bed.becomes("stale primary, unreachable");
    assert_eq!(bed.primary(), None);
    drop(bed);
    // Without the file, it is taken for what it says.
    std::fs::write(&file, "nonsense").expect("written");
    let bed = kept(&all);
    bed.becomes("primary, unreachable");
}

/// A name that moves to another server, as those of managed services do, takes the connections with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_is_followed() {
    let servers = servers(1);
    let (old, heir) = (servers.primary(), &servers.replicas()[0]);
    let bed = {
        let config = config(&[("writer", 1)], "postgres", servers.password(), "");
        let pools = Arc::new(Pools::new(&config).expect("nothing to go wrong"));
        let leads = Arc::new(AtomicU16::new(old.port));
        let asked = leads.clone();
        let lookup = move |_: &str, _: u16| vec![SocketAddr::from(([127, 0, 0, 1], asked.load(SeqCst)))];
        pools.backend("writer").expect("the only one").names.ask(Box::new(lookup));
        (Bed::over(config, pools), leads)
    };
    let (bed, leads) = bed;
    bed.becomes("primary");
    let (config, term) = (bed.config.load_full(), bed.cluster.leader().expect("a primary").1);
    assert_eq!(term, 1);
    let database = config.database("postgres").expect("there is one");
    let pool = bed.pools.pool(&config, database, ("postgres", "postgres"), None);
    let lease = async |term| {
        let wish = Wish { term, ..Wish::new(1, pool.neutral().clone()) };
        let now = clock::Instant::now();
        match pool.try_lease(&wish, now) {
            Some(server) => Some(server),
            None => tokio::time::timeout(SOON, pool.queue(wish, now)).await.ok()?.ok()?.ok(),
        }
    };
    let server = lease(1).await.expect("a connection");
    assert_eq!(server.link.term, 1);
    pool.give_back(server, clock::Instant::now());
    // The old one lives on, and nobody tells us anything but the name.
    heir.promote().unwrap_or_else(|e| panic!("{e}"));
    let epoch = pool.epoch();
    leads.store(heir.port, SeqCst);
    let begun = Instant::now();
    while bed.cluster.leader().is_none_or(|(_, term)| term != 2) || pool.epoch() == epoch {
        assert!(begun.elapsed() < SOON, "{}", bed.states());
        thread::sleep(Duration::from_millis(5));
    }
    let server = lease(2).await.expect("a connection");
    assert_eq!((server.link.term, server.link.is_past()), (2, false));
    // And back again: whoever wants timeline 2 gets nothing there, and nobody is lent what was opened before.
    leads.store(old.port, SeqCst);
    bed.becomes("stale primary");
    assert!(bed.cluster.leader().is_none());
    drop(server);
    let begun = Instant::now();
    assert!(tokio::time::timeout(Duration::from_secs(1), lease(2)).await.is_err(), "{:?}", begun.elapsed());
}

fn named(server: &Server) -> (&str, u16) {
    (server.name.as_str(), server.port)
}

fn servers(replicas: usize) -> Servers {
    Servers::start(ClusterOptions { replicas, ..Default::default() }).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn sql(server: &Server, script: &str) -> String {
    server.psql("postgres", script).unwrap_or_else(|e| panic!("{}: {script}: {e}", server.name))
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn reads_see_writes_or_are_not_served() {
    let servers = servers(2);
    let bed = Bed::to(&servers);
    bed.becomes("replica, replica, primary");
    let (one, two) = (&servers.replicas()[0], &servers.replicas()[1]);
    sql(servers.primary(), "CREATE TABLE t (n int)");
    assert!(bed.reader(&bed.need(), SOON).await.is_some());

    // One is paused: only the other serves what comes after.
    sql(one, "SELECT pg_wal_replay_pause()");
    thread::sleep(Duration::from_millis(200));
    sql(servers.primary(), "INSERT INTO t SELECT generate_series(1, 10000)");
    let need = bed.need();
    assert_eq!(bed.reader(&need, SOON).await.as_deref(), Some("replica2"));
    for _ in 0..200 {
        let chosen = bed.cluster.choose_reader(&need, clock::Instant::now());
        assert_eq!(chosen.expect("it is past it").name(), "replica2");
    }
    let verdicts = bed.cluster.explain_reader(&need);
    assert!(matches!(verdicts[0].1, Err(Refusal::Behind(_, _))), "{verdicts:?}");
    assert_eq!((verdicts[1].1, verdicts[2].1), (Ok(()), Err(Refusal::State(State::Primary))));
    eventually("its lag is seen", || {
        let (time, bytes) = bed.member("replica1").lag();
        time > Duration::from_millis(300) && bytes > 100_000
    });
    assert_eq!(bed.member("replica2").lag().1, 0);

    // A bound on lag, in either unit.
    let bounded = |max_lag: u64, max_lag_bytes: u64| {
        let max_lag = Duration::from_millis(max_lag);
        Need::of(
            &Routing { consistency: Consistency::Bounded, max_lag, max_lag_bytes, ..Default::default() },
            0,
        )
    };
    let may = |need: Need| bed.member("replica1").may_serve(&need);
    assert!(matches!(may(bounded(200, 0)), Err(Refusal::Lag(_))));
    assert!(matches!(may(bounded(0, 5_000)), Err(Refusal::LagBytes(_))));
    assert_eq!(may(bounded(60_000, 1 << 30)), Ok(()));

    // Both: nobody does, but for who need not see it.
    sql(two, "SELECT pg_wal_replay_pause()");
    thread::sleep(Duration::from_millis(200));
    sql(servers.primary(), "INSERT INTO t VALUES (0)");
    let need = bed.need();
    let begun = Instant::now();
    assert_eq!(bed.reader(&need, Duration::from_millis(300)).await, None);
    assert!((300..600).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let eventual = Routing { consistency: Consistency::Eventual, ..Default::default() };
    let chosen = bed.cluster.choose_reader(&Need::of(&eventual, 7), clock::Instant::now());
    assert!(chosen.is_some());
    // Who waits is served as soon as one goes on.
    let (waited, ()) = tokio::join!(bed.reader(&need, SOON), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        sql(two, "SELECT pg_wal_replay_resume()");
    });
    assert_eq!(waited.as_deref(), Some("replica2"));
    sql(one, "SELECT pg_wal_replay_resume()");
    eventually("it catches up", || may(need.clone()).is_ok());
}

/// Whatever the fences allow, the row is there.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_missed() {
    let servers = servers(2);
    let bed = Bed::to(&servers);
    bed.becomes("replica, replica, primary");
    let primary = pg(&servers.superuser_url("postgres")).await;
    primary.batch_execute("CREATE TABLE t (n int)").await.expect("a table");
    let mut replicas = Vec::new();
    for server in servers.replicas() {
        replicas.push((server.name.clone(), pg(&server.superuser_url("postgres")).await));
    }
    // Somebody else keeps the replicas busy.
    let noise = pg(&servers.superuser_url("postgres")).await;
    let noise = tokio::spawn(async move {
        noise.batch_execute("CREATE TABLE noise (x text)").await?;
        for _ in 0..150 {
            noise
                .batch_execute("INSERT INTO noise SELECT repeat('x', 500) FROM generate_series(1, 500)")
                .await?;
        }
        noise.batch_execute("DROP TABLE noise").await
    });
    let (mut served, mut waits) = (0, Vec::new());
    for n in 0..400 {
        primary.batch_execute(&format!("INSERT INTO t VALUES ({n})")).await.expect("a row");
        let need = bed.need();
        let begun = Instant::now();
        let Some(reader) = bed.reader(&need, SOON).await else { continue };
        waits.push(begun.elapsed());
        served += 1;
        let (_, replica) = replicas.iter().find(|(name, _)| *name == reader).expect("a replica");
        assert_eq!(value(replica, "SELECT max(n) FROM t").await, n.to_string(), "at {reader}");
    }
    noise.await.expect("no panic").expect("no error");
    waits.sort();
    assert!(served > 390, "{served}");
    assert!(waits[waits.len() / 2] < Duration::from_millis(60), "{:?}", waits[waits.len() / 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_is_not_behind() {
    let servers = servers(1);
    let bed = Bed::to(&servers);
    bed.becomes("replica, primary");
    // The next record begins behind the long header of a segment's first page.
    sql(servers.primary(), "SELECT pg_switch_wal()");
    thread::sleep(Duration::from_millis(300));
    assert!(bed.reader(&bed.need(), SOON).await.is_some());
    // And behind the header of any other page: wherever the end of the WAL lies.
    for _ in 0..40 {
        sql(
            servers.primary(),
            "SELECT pg_logical_emit_message(false, '', repeat('x', 150 + (random() * 60)::int))",
        );
        assert!(bed.reader(&bed.need(), Duration::from_secs(2)).await.is_some());
    }
    eventually("no lag", || bed.member("replica1").lag() == (Duration::ZERO, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_noticed_and_the_old_primary_stays_out() {
    let servers = servers(2);
    let bed = Bed::to(&servers);
    bed.becomes("replica, replica, primary");
    assert_eq!(bed.primary().as_deref(), Some("primary"));
    let (heir, other) = (&servers.replicas()[0], &servers.replicas()[1]);
    servers.primary().stop(StopMode::Fast).expect("it stops");
    bed.becomes("replica, replica, unreachable");
    assert_eq!(bed.primary(), None);

    // Who waits for a primary hears of it.
    let begun = Instant::now();
    let deadline = clock::Instant::now() + SOON;
    let promoting = async {
        tokio::task::block_in_place(|| heir.promote()).unwrap_or_else(|e| panic!("{e}"));
        Instant::now()
    };
    let (primary, promoted) = tokio::join!(bed.cluster.await_primary(deadline), promoting);
    assert_eq!(
        primary.map(|m| m.name().to_string()).as_deref(),
        Some("replica1"),
        "after {:?}",
        begun.elapsed()
    );
    assert!(promoted.elapsed() < Duration::from_secs(1), "{:?}", promoted.elapsed());
    assert_eq!(bed.cluster.promotions.get(), 1);
    // The other follows a primary that is no more.
    bed.becomes("primary, other timeline, unreachable");
    assert_eq!(
        bed.cluster.choose_reader(&bed.need(), clock::Instant::now()).map(|m| m.name().to_string()),
        None
    );

    // The old one comes back as if nothing had happened, and never is the primary, not even alone.
    servers.primary().start().expect("it starts");
    bed.becomes("primary, other timeline, stale primary");
    let watch = Instant::now();
    heir.stop(StopMode::Fast).expect("it stops");
    bed.becomes("unreachable, other timeline, stale primary");
    while watch.elapsed() < Duration::from_secs(2) {
        assert!(bed.primary().is_none_or(|name| name == "replica1"), "{:?}", bed.primary());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bed.primary(), None);
    heir.start().expect("it starts");
    bed.becomes("primary, other timeline, stale primary");

    // Told whom to follow, the other serves again, and only what it has seen.
    let conninfo = format!("host={} port={} user=postgres", heir.socket_dir().display(), heir.port);
    sql(other, &format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"));
    sql(other, "ALTER SYSTEM SET primary_slot_name = ''");
    other.reload().expect("it reads its settings");
    bed.becomes("primary, replica, stale primary");
    sql(heir, "CREATE TABLE after_promotion (n int)");
    assert_eq!(bed.reader(&bed.need(), SOON).await.as_deref(), Some("replica2"));
    assert_eq!(sql(other, "SELECT count(*) FROM after_promotion"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_primaries_at_once_are_none() {
    let servers = servers(2);
    let bed = Bed::to(&servers);
    bed.becomes("replica, replica, primary");
    servers.primary().kill().expect("it is ours to kill");
    bed.becomes("replica, replica, unreachable");
    for replica in servers.replicas() {
        replica.promote().unwrap_or_else(|e| panic!("{e}"));
    }
    bed.becomes("rival primary, rival primary, unreachable");
    assert_eq!((bed.primary(), bed.cluster.conflicts.get()), (None, 1));
    let deadline = clock::Instant::now() + Duration::from_millis(200);
    assert!(bed.cluster.await_primary(deadline).await.is_none());
    // Until one of them is gone.
    servers.replicas()[1].stop(StopMode::Fast).expect("it stops");
    bed.becomes("primary, unreachable, unreachable");
    assert_eq!(bed.primary().as_deref(), Some("replica1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_system_is_refused() {
    // Any role may look at the servers; this one may nothing else.
    let make = "DO $$ BEGIN CREATE ROLE onlooker LOGIN PASSWORD 'looks'; EXCEPTION WHEN duplicate_object THEN END $$";
    for servers in [replicated(), cluster()] {
        sql(servers.primary(), make);
    }
    replicated().wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let stranger = ("stranger", cluster().primary().port);
    let mut members = vec![stranger];
    members.extend(replicated().replicas().iter().map(named));
    members.push(named(replicated().primary()));
    let bed = Bed::new(config(&members, "onlooker", "looks", "lag_interval = '50ms'"));
    bed.becomes("wrong system, replica, replica, primary");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(bed.primary().as_deref(), Some("primary"));
    assert!(bed.reader(&bed.need(), SOON).await.is_some_and(|name| name != "stranger"));
    // A reload takes it out, and what is known of the others stays.
    let before = bed.member("replica1");
    let without = config(&members[1..], "onlooker", "looks", "");
    bed.pools.reload(&without).expect("nothing to go wrong");
    bed.clusters.reload(&without, &bed.pools);
    bed.config.store(Arc::new(without));
    assert_eq!(bed.states(), "replica, replica, primary");
    assert!(Arc::ptr_eq(&before, &bed.member("replica1")));
    assert!(bed.reader(&bed.need(), SOON).await.is_some());
    assert_eq!(bed.cluster.promotions.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_cut_off_is_noticed_and_probes_do_not_pile_up() {
    let servers = servers(1);
    let hole = relay::hole(servers.replicas()[0].port);
    let members = [("replica1", hole.port), named(servers.primary())];
    let bed = Bed::new(config(&members, "postgres", servers.password(), ""));
    bed.becomes("replica, primary");
    hole.shut.store(true, SeqCst);
    let begun = Instant::now();
    bed.becomes("unreachable, primary");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(bed.cluster.choose_reader(&bed.need(), clock::Instant::now()).is_none());
    let most = (0..300).map(|_| {
        thread::sleep(Duration::from_millis(10));
        // Many would like to know.
        bed.cluster.wake();
        hole.open.load(SeqCst)
    });
    let most = most.max().unwrap_or_default();
    assert!(most <= 2, "{most} connections at once");
    assert_eq!(bed.primary().as_deref(), Some("primary"), "others do not suffer");
    hole.shut.store(false, SeqCst);
    bed.becomes("replica, primary");
    assert!(bed.reader(&bed.need(), SOON).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_a_cluster_is_served_by_its_primary() {
    let db = Db::in_cluster(replicated());
    let members = "[[cluster]]\nname = \"main\"\nbackends = [\"replica1\", \"primary\", \"replica2\"]\n";
    let options = ProxyOptions { extra: members.to_string(), ..Default::default() };
    let proxy = Proxy::edited(&db, &options, |config| {
        config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
    });
    replicated().wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let admin = pg(&proxy.admin_url(&db)).await;
    let states = async || {
        let rows = rows(&admin, "SHOW BACKENDS").await;
        rows.iter().map(|row| format!("{} {}", row[1], row[4])).collect::<Vec<_>>().join(", ")
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while states().await != "replica1 replica, primary primary, replica2 replica" {
        assert!(Instant::now() < deadline, "{}", states().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute("CREATE TABLE written (n int)").await.expect("the primary takes writes");
    let shown = rows(&admin, "SHOW DATABASES").await;
    assert!(shown.iter().any(|row| row.last().is_some_and(|backend| backend == "primary")), "{shown:?}");
    assert!(proxy.log().contains("probes log in"));
    assert!(!proxy.log().contains(&db.password));
}
