//! `turnpike cache enable-wal` and its like: puts into a database what tells of writes that do not pass through the
//! proxy, and takes it out again.

use std::path::PathBuf;
use std::process::ExitCode;

use super::run::runtime;
use super::with;
use crate::config::{Backend, Config, Database, User};
use crate::elsewhere::install;
use crate::pool::connect::{Credential, Target};
use crate::pool::driver::{self, Kept, Login};

/// What is to be done.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Have the server's WAL streamed: event triggers, a publication, and a replication slot.
    EnableWal(Args),
    /// Remove them.
    DisableWal(Args),
    /// Where wal_level is not logical: have triggers notify of each write, and event triggers of DDL.
    EnableTriggers(Args),
    /// Remove them.
    DisableTriggers(Args),
}

/// Where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file.
    #[arg(short, long, default_value = "turnpike.toml")]
    config: PathBuf,
    /// The [[database]], by its name there.
    #[arg(short, long)]
    database: String,
    /// Who logs in on the backend, a superuser; the password is that of the [[user]], or in PGPASSWORD
    /// [default: invalidation_user]
    #[arg(short, long)]
    user: Option<String>,
}

/// Does it, and says what has been done.
pub fn run(command: &Command) -> ExitCode {
    let (Command::EnableWal(args)
    | Command::DisableWal(args)
    | Command::EnableTriggers(args)
    | Command::DisableTriggers(args)) = command;
    with(&args.config, |config| {
        let outcome = runtime(1)
            .map_err(|e| e.to_string())
            .and_then(|runtime| runtime.block_on(act(command, args, &config)));
        match outcome {
            Ok(lines) => {
                lines.iter().for_each(|line| println!("{line}"));
                ExitCode::SUCCESS
            }
            Err(e) => {
                eprintln!("turnpike: {e}");
                ExitCode::FAILURE
            }
        }
    })
}

async fn act(command: &Command, args: &Args, config: &Config) -> Result<Vec<String>, String> {
    let database = config.databases.iter().find(|database| database.name == args.database);
    let database = database.ok_or_else(|| format!("there is no [[database]] \"{}\"", args.database))?;
    let dbname = database.dbname.as_ref().unwrap_or(&database.name);
    let kept = connect(args, config, database, dbname).await?;
    let client = &kept.client;
    let slot = database.invalidation.slot(dbname);
    match command {
        Command::EnableWal(_) => install::enable_wal(client, &slot).await,
        Command::DisableWal(_) => install::disable_wal(client, &slot).await,
        Command::EnableTriggers(_) => install::enable_triggers(client).await,
        Command::DisableTriggers(_) => install::disable_triggers(client).await,
    }
}

/// A connection to the server that takes writes.
async fn connect(args: &Args, config: &Config, database: &Database, dbname: &str) -> Result<Kept, String> {
    let user = args.user.as_ref().or(database.invalidation.user.as_ref());
    let user = user.ok_or("who logs in is not said: give --user")?;
    let login = login(user, config.user(user));
    let members: Vec<&Backend> = match database.cluster.as_ref().and_then(|name| config.cluster(name)) {
        Some(cluster) => cluster.members(config).collect(),
        None => config.backends.get(database.backend).into_iter().collect(),
    };
    let mut refused = "there is no backend".to_string();
    for backend in members {
        let target = Target::new(backend)?;
        match driver::kept(&target, &login, dbname, "turnpike cache").await {
            Ok(kept) => {
                let writes = "SELECT 1 WHERE NOT pg_catalog.pg_is_in_recovery()";
                let rows = kept.client.query(writes, &[]).await.map_err(|e| e.to_string())?;
                if !rows.is_empty() {
                    return Ok(kept);
                }
                refused = format!("backend \"{}\" is in recovery", backend.name);
            }
            Err(e) => refused = format!("{} ({})", e.message, e.code),
        }
    }
    Err(refused)
}

fn login(name: &str, user: Option<&User>) -> Login {
    let known = user.map_or(Credential::None, |user| Login::of(user).credential);
    let credential = match (known, std::env::var("PGPASSWORD")) {
        (Credential::None, Ok(password)) => Credential::Password(password),
        (known, _) => known,
    };
    Login { user: name.to_string(), credential }
}
