//! The house rules as a test: floors, first lines, file and function sizes as ratchets, and banned calls. Each rule
//! says why; each exception is listed here and may only shrink.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors: a module imports only from those with a smaller number.
const FLOORS: &[(&str, u8)] = &[
    ("core", 0),
    ("config", 1),
    ("wire", 1),
    ("sql", 1),
    ("catalog", 2),
    ("fence", 2),
    ("tenant", 2),
    ("cache", 3),
    ("pool", 3),
    ("route", 3),
    ("plan", 4),
    ("cluster", 4),
    ("session", 5),
    ("discover", 6),
    ("elsewhere", 6),
    ("mirror", 6),
    ("observe", 6),
    ("admin", 7),
    ("report", 7),
    ("app", 8),
    ("cli", 9),
];

/// Imports on one floor, or upwards, each with its reason.
const ALLOWED: &[(&str, &str, &str)] =
    &[("src/wire/tls.rs", "config", "certificates and sslmode are the configuration's own words")];

/// Most lines of a file without its tests.
const FILE_LINES: usize = 500;
/// Most lines of a function.
const FUNCTION_LINES: usize = 60;
/// Files that were larger when the rule was made, and how large.
const LARGE_FILES: &[(&str, usize)] = &[("src/pool/pool.rs", 600)];

/// What must not be called, where it may be, and why not.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("println!", &["src/cli/"], "only commands speak to a terminal"),
    ("eprintln!", &["src/cli/"], "only commands speak to a terminal"),
    (".unwrap()", &[], "what came from outside must not panic"),
    ("todo!(", &[], "real or not at all"),
    ("unimplemented!(", &[], "real or not at all"),
    ("std::thread::sleep", &["src/app/cluster", "src/cli/"], "it stops every client of the worker"),
    (
        "SystemTime::now",
        &[
            "src/pool/server.rs",
            "src/session/entry.rs",
            "src/session/shared.rs",
            "src/pool/adaptive/watch.rs",
            "src/cli/sign.rs",
        ],
        "wall clocks jump",
    ),
    ("std::sync::Mutex", &["src/app/cluster"], "a panic must not poison what others share"),
];

/// Paths that deserve the strictest eye: no clock but the one that is passed in.
const NO_CLOCK: &[&str] = &["src/session/pump.rs", "src/session/expect.rs", "src/wire/", "src/sql/"];

fn sources(dir: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut dirs, mut files) = (vec![root.join(dir)], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                // What separate crates were built into is not ours.
                dirs.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                files.push((name, fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    files.sort();
    files
}

/// The part of a file that runs: up to its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Source files that rules about code apply to: not this one, which names what it bans, nor tests.
fn checked() -> impl Iterator<Item = (String, String)> {
    sources("src").into_iter().filter(|(name, _)| name != "src/tidy.rs" && !name.contains("/tests"))
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let all = ["src", "integration", "benches", "fuzz/targets"].into_iter().flat_map(sources);
    let silent = all.filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name);
    report(&silent.collect::<Vec<_>>());
}

#[test]
fn modules_import_downwards_only() {
    let floors: HashMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut problems = Vec::new();
    for (name, text) in checked() {
        let Some(own) =
            name.strip_prefix("src/").and_then(|n| n.split('/').next()).filter(|m| floors.contains_key(m))
        else {
            continue;
        };
        for (i, line) in code(&text).lines().enumerate().filter(|(_, l)| !is_comment(l)) {
            for used in line.split("crate::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let Some(floor) = floors.get(used).filter(|_| used != own) else { continue };
                let allowed = ALLOWED.iter().any(|(file, module, _)| *file == name && *module == used);
                if *floor >= floors[own] && !allowed {
                    problems.push(format!("{name}:{}: {own} must not import {used}", i + 1));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn files_stay_small() {
    let mut problems = Vec::new();
    for (name, text) in checked() {
        let lines = code(&text).lines().count();
        let limit =
            LARGE_FILES.iter().find(|(file, _)| *file == name).map_or(FILE_LINES, |(_, limit)| *limit);
        if lines > limit {
            problems.push(format!("{name}: {lines} lines, more than {limit}: does it still have one job?"));
        }
    }
    report(&problems);
}

#[test]
fn functions_stay_small() {
    let mut problems = Vec::new();
    for (name, text) in checked() {
        let mut open: Option<(usize, usize)> = None;
        for (i, line) in code(&text).lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let begins = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "const fn ",
            ];
            if begins.iter().any(|b| words.starts_with(b)) {
                open = Some((i, indent));
            } else if let Some((start, depth)) = open
                && words.starts_with('}')
                && indent == depth
            {
                if i - start > FUNCTION_LINES {
                    problems.push(format!(
                        "{name}:{}: a function of {} lines, more than {FUNCTION_LINES}",
                        start + 1,
                        i - start
                    ));
                }
                open = None;
            }
        }
    }
    report(&problems);
}

#[test]
fn banned_calls_are_not_made() {
    let mut problems = Vec::new();
    for (name, text) in checked() {
        for (i, line) in code(&text).lines().enumerate().filter(|(_, l)| !is_comment(l)) {
            for (call, places, why) in BANNED {
                if line.contains(call) && !places.iter().any(|p| name.starts_with(p)) {
                    problems.push(format!("{name}:{}: {call}: {why}", i + 1));
                }
            }
            if line.contains("Instant::now()") && NO_CLOCK.iter().any(|p| name.starts_with(p)) {
                problems.push(format!("{name}:{}: Instant::now(): time is passed in here", i + 1));
            }
        }
    }
    report(&problems);
}
