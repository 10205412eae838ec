//! Corpora: texts that hold one statement per record. Records end with a line that is just `;;`; the first record of a
//! file is its header when all of its lines are comments, and says how the rest was recorded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A corpus: where it came from and its statements, in order.
#[derive(Debug)]
pub struct Corpus {
    /// The file's name without directories.
    pub name: String,
    /// What it holds.
    pub records: Vec<Record>,
}

/// One statement of a corpus.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The line that it starts in, from one.
    pub line: usize,
    /// Its bytes, without the line end before the separator.
    pub sql: Vec<u8>,
}

/// Reads files, and all `.sql` files of directories (not of directories in them).
pub fn read(paths: &[PathBuf]) -> io::Result<Vec<Corpus>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(path)?.flatten().map(|e| e.path()).collect();
            inside.retain(|p| p.extension().is_some_and(|e| e == "sql"));
            inside.sort();
            files.append(&mut inside);
        } else {
            files.push(path.clone());
        }
    }
    files.iter().map(|f| Ok(Corpus { name: name(f), records: split(&fs::read(f)?) })).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The records of a corpus's text.
pub fn split(text: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let (mut line, mut first_line, mut start, mut at) = (1, 1, 0, 0);
    for piece in text.split_inclusive(|&b| b == b'\n') {
        let next = at + piece.len();
        line += 1;
        if piece.trim_ascii_end() == b";;" {
            push(&mut records, first_line, &text[start..at]);
            (start, first_line) = (next, line);
        }
        at = next;
    }
    push(&mut records, first_line, &text[start..]);
    records
}

fn push(records: &mut Vec<Record>, line: usize, text: &[u8]) {
    let sql = text.strip_suffix(b"\n").unwrap_or(text);
    let header = line == 1 && sql.split(|&b| b == b'\n').all(|l| l.starts_with(b"--"));
    if !header && !sql.trim_ascii().is_empty() {
        records.push(Record { line, sql: sql.to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_lines_and_bytes() {
        let text = b"-- how\n-- recorded\n;;\nSELECT 1\n;;\nSELECT\n  ';'\n\n;;\n;;\n-- said\nSELECT 2";
        let found: Vec<_> =
            split(text).into_iter().map(|r| (r.line, String::from_utf8_lossy(&r.sql).into_owned())).collect();
        let want = [(4, "SELECT 1"), (6, "SELECT\n  ';'\n"), (11, "-- said\nSELECT 2")];
        assert_eq!(found, want.map(|(line, sql)| (line, sql.to_owned())));
    }
}
