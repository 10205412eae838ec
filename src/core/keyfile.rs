//! Files with secrets of an operator's: read whole, within a bound, and only where not every user of the machine may.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Bytes of a key.
pub const KEY: usize = 32;

/// What is in such a file, up to `most` bytes; `what` names it for people.
///
/// # Errors
/// It cannot be read, is larger, or is open to every user of this machine.
pub fn read(path: &Path, what: &str, most: usize) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let cannot = |e: std::io::Error| format!("cannot read the {what} {shown}: {e}");
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode();
    if mode & 0o006 != 0 {
        return Err(format!("the {what} {shown} is open to every user of this machine: chmod o-rw"));
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > most {
        return Err(format!("the {what} {shown} has more than {most} bytes"));
    }
    Ok(bytes)
}

/// The key in a file: 64 hexadecimal digits, or 32 bytes.
///
/// # Errors
/// As [`read`], or there is none in it.
pub fn key(path: &Path) -> Result<[u8; KEY], String> {
    let bytes = read(path, "key file", 4 * KEY)?;
    parse(&bytes).ok_or_else(|| {
        format!(
            "the key file {} has no key in it: 64 hexadecimal digits (openssl rand -hex 32), or 32 bytes",
            path.display()
        )
    })
}

fn parse(bytes: &[u8]) -> Option<[u8; KEY]> {
    if let Ok(raw) = <[u8; KEY]>::try_from(bytes) {
        return Some(raw);
    }
    let mut key = [0; KEY];
    hex::decode_to_slice(bytes.trim_ascii(), &mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_key() {
        let hex = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        for (text, is_key) in [
            (hex.as_bytes().to_vec(), true),
            (format!("{hex}\n").into_bytes(), true),
            (vec![0xff; 32], true),
            (hex.as_bytes()[1..].to_vec(), false),
            (vec![1; 31], false),
            (Vec::new(), false),
        ] {
            assert_eq!(parse(&text).is_some(), is_key, "{text:?}");
        }
    }
}
