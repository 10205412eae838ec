//! Where a `[[user]]` keeps its secret, and what kind it is. No message made here has a secret in it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Secret;
use super::raw::{Fault, Section};
use crate::core::limits;

const KEYS: [&str; 4] = ["verifier", "password", "password_env", "password_file"];

/// The secret of a `[[user]]`.
pub(super) fn secret(section: &Section<'_>) -> Secret {
    let mut given = KEYS.into_iter().filter(|key| section.has(key));
    let Some(first) = given.next() else { return Secret::None };
    if let Some(second) = given.next() {
        section.report(second, format!("{first} is already given: a user has one secret"));
    }
    let found = match first {
        "verifier" => verifier(section, first),
        "password_env" => from_variable(section, first),
        "password_file" => from_file(section, first),
        // Written out as a password, it is one, whatever it looks like.
        _ => section.text(first).map(Secret::Password),
    };
    found.unwrap_or(Secret::None)
}

fn verifier(section: &Section<'_>, key: &str) -> Option<Secret> {
    let text = section.text(key)?;
    if !is_verifier(&text) {
        let fault = Fault::from("must be a verifier: SCRAM-SHA-256$... or md5...");
        section.report(key, fault.hint("SELECT rolpassword FROM pg_authid"));
        return None;
    }
    Some(Secret::stored(&text))
}

/// The name is not said: it may be the password itself, put under the wrong key.
fn from_variable(section: &Section<'_>, key: &str) -> Option<Secret> {
    let name = section.text(key)?;
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let fault = Fault::from("there is no environment variable of that name, or no text in it");
        section.report(key, fault.hint("give the variable's name, not the password"));
    }
    kept(section, key, &value?)
}

/// The path is not said, for the same reason.
fn from_file(section: &Section<'_>, key: &str) -> Option<Secret> {
    let (bytes, mode) = read(&section.path(key)?)
        .map_err(|error| {
            let fault = Fault::from(format!("cannot read that file: {error}"));
            section.report(key, fault.hint("give a path, from this file's directory, not the password"));
        })
        .ok()?;
    if mode & 0o006 != 0 {
        let fault = Fault::from("that file is open to every user of this machine");
        section.report(key, fault.hint("chmod o-rw; for a Kubernetes secret, defaultMode: 0440"));
    }
    let text = String::from_utf8(bytes).unwrap_or_default();
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains('\0') {
        section.report(key, "that file has no password in it");
        return None;
    }
    kept(section, key, line)
}

/// What is in a file, and who may read it: of the same file, whatever happens to the path meanwhile.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(limits::MAX_AUTH_MESSAGE as u64).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.permissions().mode()))
}

/// What a variable or a file holds: a password, or a verifier.
fn kept(section: &Section<'_>, key: &str, text: &str) -> Option<Secret> {
    if is_verifier(text) {
        return Some(Secret::stored(text));
    }
    // As a password it would let nobody in, and nobody would know why.
    if text.starts_with("SCRAM-SHA-256$") {
        section.report(key, "the verifier in it is not valid");
        return None;
    }
    Some(Secret::Password(text.to_string()))
}

/// `md5` and 32 hexadecimal digits, or `SCRAM-SHA-256$iterations:salt$stored:server`, as in pg_authid.
fn is_verifier(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("md5") {
        return digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
    }
    scram_parts(text).unwrap_or(false)
}

fn scram_parts(text: &str) -> Option<bool> {
    let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = head.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let length = |text: &str| STANDARD.decode(text).map_or(0, |bytes| bytes.len());
    let iterations = iterations.parse::<u32>().unwrap_or(0);
    let bounded = (1..=limits::MAX_SCRAM_ITERATIONS).contains(&iterations);
    Some(bounded && length(salt) > 0 && length(stored) == 32 && length(server) == 32)
}
