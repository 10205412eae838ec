//! `turnpike record`: has a running proxy record its traffic, for a while. What may be recorded, where to and under which
//! key is for the proxy's configuration to say, not for whoever runs this.

use std::process::ExitCode;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::place::Place;
use super::run::{runtime, stopped};
use crate::config::units;
use crate::pool::driver::{self, Kept};

/// Arguments of `turnpike record`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the recording: its files are NAME.1.tpr and so on, in record.dir.
    name: String,
    /// The proxy's admin database, as one of its admins; the password may be in PGPASSWORD.
    #[arg(long, value_name = "URL")]
    admin: String,
    /// How long, such as 30s or 5min [default: until interrupted]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Option<Duration>,
    /// Root certificate that the proxy's must be signed by.
    #[arg(long, value_name = "FILE")]
    root_cert: Option<std::path::PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text)
}

/// Begins a recording, waits, ends it, and says what has come of it.
pub fn run(args: Args) -> ExitCode {
    let outcome = runtime(1).map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(record(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("turnpike: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn record(args: Args) -> Result<(), String> {
    let Place { target, dbname, login } = Place::parse(&args.admin, args.root_cert)?;
    let admin = driver::kept(&target, &login, &dbname, "turnpike record").await;
    let admin = admin.map_err(|e| format!("{} ({})", e.message, e.code))?;
    say(&admin, &format!("RECORD START \"{}\"", args.name.replace('"', ""))).await?;
    eprintln!("recording \"{}\"; Ctrl-C ends it", args.name);
    let ends = async {
        match args.time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(ends);
    let mut stop = std::pin::pin!(stopped());
    let mut ended = false;
    while !ended {
        tokio::select! {
            () = &mut ends => break,
            () = &mut stop => break,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        // It ends by itself when its files are full.
        ended = say(&admin, "SHOW RECORDING").await.is_ok_and(|row| value(&row, "state") == "over");
    }
    let rows = say(&admin, if ended { "SHOW RECORDING" } else { "RECORD STOP" }).await?;
    for (name, value) in rows {
        println!("{name:14} {value}");
    }
    Ok(())
}

type Row = Vec<(String, String)>;

fn value<'r>(row: &'r Row, name: &str) -> &'r str {
    row.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// Says something to the admin database; the row that it answers with.
async fn say(admin: &Kept, command: &str) -> Result<Row, String> {
    let answer = admin.client.simple_query(command).await.map_err(|e| match e.as_db_error() {
        Some(e) => {
            let more = [e.detail(), e.hint()].into_iter().flatten().map(|more| format!("\n  {more}"));
            format!("{} ({}){}", e.message(), e.code().code(), more.collect::<String>())
        }
        None => e.to_string(),
    })?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let field = |(i, name): (usize, &str), row: &tokio_postgres::SimpleQueryRow| {
        (name.to_string(), row.get(i).unwrap_or_default().to_string())
    };
    Ok(row.map_or_else(Vec::new, |row| {
        row.columns().iter().enumerate().map(|(i, c)| field((i, c.name()), row)).collect()
    }))
}
