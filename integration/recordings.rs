//! Traffic kept in files and played again (`turnpike record`, `turnpike replay`): what was recorded is what is run, nothing
//! of it can be read without the key, and values are only kept with consent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{Db, Proxy, cluster, eventually, pg};
use crate::mirrors::{SHOP, leave_second, options, prepare_second, second};

/// A database on both servers, a proxy that may record, and where to.
struct Bed {
    db: Db,
    proxy: Proxy,
    dir: TempDir,
}

impl Bed {
    fn new(lines: &str) -> Bed {
        let db = Db::in_cluster(cluster());
        db.psql(SHOP);
        prepare_second(&db, SHOP);
        let dir = TempDir::with_prefix("turnpike-record-").expect("a directory");
        write_key(&dir.path().join("key"), "ab");
        let section =
            format!("[record]\ndir = \"{0}\"\nkey_file = \"{0}/key\"\n{lines}", dir.path().display());
        let proxy = Proxy::start(&db, options(&db, second().primary().port, &[], &section));
        Bed { db, proxy, dir }
    }

    async fn admin(&self, command: &str) -> Result<(), String> {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        admin.batch_execute(command).await.map_err(|e| format!("{:?}", e.as_db_error()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn there(&self, sql: &str) -> String {
        second().primary().psql(&self.db.name, sql).expect("it runs").trim().to_string()
    }

    /// `turnpike replay` with these files and further arguments.
    fn replay(&self, files: &[PathBuf], args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.arg("replay").args(files);
        if !args.contains(&"--key") {
            command.arg("--key").arg(self.file("key"));
        }
        told(&command.args(args).output().expect("it runs"))
    }

    fn url_there(&self) -> String {
        let Db { name, user, password, .. } = &self.db;
        second().primary().url(user, password, name)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        leave_second(&self.db);
    }
}

fn write_key(path: &Path, digits: &str) {
    fs::write(path, digits.repeat(32)).expect("a key");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
}

fn told(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Transactions, prepared statements, settings, errors and COPY, by two sessions at once.
async fn traffic(bed: &Bed) {
    let url = bed.proxy.url(&bed.db);
    let (mut one, two) = (pg(&url).await, pg(&url).await);
    one.batch_execute("SELECT 1").await.expect("an answer");
    bed.admin("REFRESH CATALOG").await.expect("it is read");
    let insert = one.prepare("INSERT INTO sale (id, item) VALUES ($1, $2)").await.expect("prepared");
    bed.admin("RECORD START run").await.expect("it is recorded");
    two.batch_execute("SET search_path = public, pg_catalog").await.expect("set");
    for n in 1..=10i32 {
        let transaction = one.transaction().await.expect("begun");
        transaction.execute(&insert, &[&n, &(n * 3)]).await.expect("inserted");
        let sql = format!("SELECT name FROM item WHERE id = {n} AND 'hunter2' <> name");
        two.simple_query(&sql).await.expect("rows");
        let _ = transaction.simple_query("SAVEPOINT s; INSERT INTO sale (id, item) VALUES (1, 1)").await;
        if n % 5 == 0 {
            transaction.rollback().await.expect("rolled back");
        } else {
            let _ = transaction.simple_query("ROLLBACK TO s").await;
            transaction.commit().await.expect("committed");
        }
    }
    two.simple_query("SELECT sum(price) FROM item").await.expect("rows");
    two.simple_query("SET my.secret = 'hunter2'").await.expect("set");
    drop((one, two));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_is_replayed() {
    let bed = Bed::new("literals = true");
    traffic(&bed).await;
    eventually("all is written", || bed.file("run.1.tpr").metadata().is_ok_and(|m| m.len() > 1000));
    bed.admin("RECORD STOP").await.expect("it ends");
    let file = bed.file("run.1.tpr");
    let mode = file.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bytes = fs::read(&file).expect("a file");
    for value in [&b"hunter2"[..], b"SELECT", b"sale"] {
        assert!(!bytes.windows(value.len()).any(|w| w == value), "it can be read without the key");
    }
    let shown = bed.replay(std::slice::from_ref(&file), &[]);
    assert!(shown.0 == 0 && shown.1.contains("values are kept") && !shown.1.contains("hunter2"), "{shown:?}");

    // The same on a server that was the same: nothing differs, and the same is there afterwards.
    let (code, text) = bed.replay(std::slice::from_ref(&file), &["--to", &bed.url_there(), "--speed", "max"]);
    assert!(
        code == 0 && text.contains("different: sqlstate 0, rows 0, checksum 0, order 0"),
        "{code}: {text}"
    );
    assert!(text.contains("0 skipped, 0 lost, 0 failed"), "{text}");
    assert!(text.contains("insert into sale ( id , item ) values ( ? , ? )"), "{text}");
    let all = "SELECT count(*), sum(id), sum(item) FROM sale";
    assert_eq!(bed.there(all), bed.db.psql(all).trim());

    // Again, where all of it is there already, and an item is not: what differs is told.
    bed.there("DELETE FROM item WHERE id = 3; UPDATE item SET price = 0 WHERE id = 4");
    let (code, text) = bed.replay(std::slice::from_ref(&file), &["--to", &bed.url_there(), "--speed", "5"]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("different: sqlstate 24, rows 1, checksum 1, order 0"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    // Nothing but reads changes nothing.
    let before = bed.there(all);
    let (_, text) =
        bed.replay(std::slice::from_ref(&file), &["--to", &bed.url_there(), "--speed", "max", "--reads"]);
    assert!(text.contains("different: sqlstate 0, rows 1, checksum 1, order 0"), "{text}");
    assert_eq!(bed.there(all), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_as_they_were_or_are_refused() {
    let bed = Bed::new("literals = true");
    traffic(&bed).await;
    bed.admin("RECORD STOP").await.expect("it ends");
    let file = bed.file("run.1.tpr");
    let bytes = fs::read(&file).expect("a file");
    write_key(&bed.file("other"), "cd");
    let other = bed.file("other").display().to_string();
    let wrong = bed.replay(std::slice::from_ref(&file), &["--key", &other]);
    assert!(wrong.0 == 1 && wrong.1.contains("the key is not the one"), "{wrong:?}");
    let damaged = bed.file("damaged.1.tpr");
    for (change, says) in [
        (bytes[..56].to_vec(), "there is nothing whole in it"),
        ([&bytes[..], b"x"].concat(), "something follows its end"),
        (
            bytes.iter().enumerate().map(|(i, b)| if i == bytes.len() / 2 { b ^ 1 } else { *b }).collect(),
            "has been changed",
        ),
    ] {
        fs::write(&damaged, change).expect("written");
        let sales = bed.there("SELECT count(*) FROM sale");
        let (code, text) = bed.replay(std::slice::from_ref(&damaged), &["--to", &bed.url_there()]);
        assert!(code == 1 && text.contains(says), "{text}");
        assert_eq!(bed.there("SELECT count(*) FROM sale"), sales, "nothing of it is played");
    }
    fs::set_permissions(bed.file("key"), fs::Permissions::from_mode(0o644)).expect("a mode");
    let open = bed.replay(std::slice::from_ref(&file), &[]);
    assert!(open.1.contains("open to every user"), "{open:?}");
    let refused = bed.admin("RECORD START again").await.expect_err("the key is open");
    assert!(refused.contains("open to every user"), "{refused}");
}

/// A process that is killed leaves a file without an end: what is whole in it is replayed, and what is missing told.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_killed_process_is_replayed_up_to_the_cut() {
    let bed = Bed::new("literals = true");
    traffic(&bed).await;
    let file = bed.file("run.1.tpr");
    let says = |(code, text): (i32, String)| {
        assert!(text.contains("run.1.tpr: its end is missing"), "{code}: {text}");
        (code, text)
    };
    let exchanges = |text: &str| {
        let n = text.lines().find_map(|line| line.split_once(" exchanges of ")).expect("a count").0;
        n.split(' ').next_back().and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    // While it is being written, it is as one that was cut off. Twice: what is written out at once is whole or not at all.
    let written = |part: &str| {
        eventually("it is written out", || bed.replay(std::slice::from_ref(&file), &[]).1.contains(part));
    };
    written("select sum ( price ) from item");
    let last = "SELECT count(*) FROM item";
    pg(&bed.proxy.url(&bed.db)).await.simple_query(last).await.expect("a row");
    written("select count ( * ) from item");
    bed.proxy.signal(nix::sys::signal::Signal::SIGKILL);
    bed.proxy.wait();
    let (code, text) = says(bed.replay(std::slice::from_ref(&file), &[]));
    assert_eq!(code, 3, "{text}");
    let all = exchanges(&text);
    let (code, text) =
        says(bed.replay(std::slice::from_ref(&file), &["--to", &bed.url_there(), "--speed", "max"]));
    assert!(code == 3 && text.contains(&format!("{all} of {all} exchanges")), "{code}: {text}");
    assert!(text.contains("different: sqlstate 0, rows 0, checksum 0, order 0"), "{text}");
    let sales = "SELECT count(*), sum(id), sum(item) FROM sale";
    assert_eq!(bed.there(sales), bed.db.psql(sales).trim());

    // Cut in the middle of a chunk: a part of it, in order from the first on.
    let bytes = fs::read(&file).expect("a file");
    fs::write(&file, &bytes[..bytes.len() - 40]).expect("written");
    let (_, text) = says(bed.replay(std::slice::from_ref(&file), &[]));
    assert!((1..all).contains(&exchanges(&text)), "{text}");
    // What is changed before the cut is refused as ever, and nothing of it is played.
    let changed: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| if i == 80 { b ^ 1 } else { *b }).collect();
    fs::write(&file, changed).expect("written");
    let (code, text) = bed.replay(std::slice::from_ref(&file), &["--to", &bed.url_there()]);
    assert!(code == 1 && text.contains("has been changed"), "{text}");
    assert_eq!(bed.there(sales), bed.db.psql(sales).trim());
    // Only the last file of a recording may lack its end.
    fs::write(&file, &bytes).expect("written");
    let (code, text) = bed.replay(&[file.clone(), file], &[]);
    assert!(code == 1 && text.contains("its end is missing"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_consent_there_are_only_shapes() {
    let bed = Bed::new("");
    traffic(&bed).await;
    // What is there is not written over, and there is one recording at a time.
    let refused = bed.admin("RECORD START two").await.expect_err("one is enough");
    assert!(refused.contains("something is being recorded already"), "{refused}");
    bed.admin("RECORD STOP").await.expect("it ends");
    let refused = bed.admin("RECORD START run").await.expect_err("it is there");
    assert!(refused.contains("File exists"), "{refused}");
    let refused = bed.admin("RECORD START \"../run\"").await.expect_err("no name");
    assert!(refused.contains("no name of a recording"), "{refused}");
    let file = bed.file("run.1.tpr");
    let (code, text) = bed.replay(std::slice::from_ref(&file), &[]);
    assert!(
        code == 0 && text.contains("values are left out") && text.contains("select name from item"),
        "{text}"
    );
    let (code, text) = bed.replay(std::slice::from_ref(&file), &["--to", &bed.url_there()]);
    assert!(code == 1 && text.contains("they can be looked at, not replayed"), "{text}");
    // Even with the key there is no value in it.
    let key = turnpike::mirror::file::key::Key::read(&bed.file("key")).expect("a key");
    let mut events = turnpike::mirror::file::event::Events::new(fs::File::open(&file).expect("a file"), &key)
        .expect("a recording");
    let mut exchanges = 0;
    while let Some(event) = events.next_event().expect("an event") {
        use turnpike::mirror::file::event::Event;
        if let Event::Exchange(exchange) = &event {
            assert!(exchange.requests.is_empty() && exchange.statements.is_empty());
            exchanges += 1;
        }
        assert!(!format!("{event:?}").contains("hunter2") && !matches!(event, Event::Settings(..)));
    }
    assert!(exchanges > 30, "{exchanges}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_records_and_files_are_bounded() {
    let bed = Bed::new("literals = true\nmax_size = \"1MiB\"\nmax_files = 2");
    let client = pg(&bed.proxy.url(&bed.db)).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.args(["record", "long", "--for", "1min", "--admin", &bed.proxy.admin_url(&bed.db)]);
    let running = std::thread::spawn(move || command.output().expect("it runs"));
    eventually("it records", || bed.file("long.1.tpr").exists());
    let text = "x".repeat(30_000);
    // More than two files of a mebibyte have room for: it ends by itself.
    for _ in 0..120 {
        client.simple_query(&format!("SELECT length('{text}')")).await.expect("rows");
    }
    eventually("it has ended", || running.is_finished());
    let (code, text) = told(&running.join().expect("no panic"));
    assert!(code == 0 && text.contains("its files are full"), "{text}");
    let files = [bed.file("long.1.tpr"), bed.file("long.2.tpr")];
    for file in &files {
        let size = file.metadata().expect("a file").len();
        assert!((500_000..=1 << 20).contains(&size), "{size}");
    }
    assert!(!bed.file("long.3.tpr").exists());
    let (code, text) = bed.replay(&files, &["--to", &bed.url_there(), "--speed", "max"]);
    assert!(code == 0 && text.contains("0 lost"), "{text}");
    // Each can be read alone; in the wrong order they are not one recording.
    let (code, text) = bed.replay(&[files[1].clone(), files[0].clone()], &[]);
    assert!(code == 1 && text.contains("do not follow each other"), "{text}");
    assert_eq!(bed.replay(&files[1..], &[]).0, 0);
}
