//! A result as it is given: JSON, CSV or an HTML table, written row by row within its bounds.

use super::ask::{Column, Fault, Sink};
use crate::config::{Report, ReportFormat};

/// What it is called in HTTP.
pub fn content_type(format: ReportFormat) -> &'static str {
    match format {
        ReportFormat::Json => "application/json",
        ReportFormat::Csv => "text/csv; charset=utf-8; header=present",
        ReportFormat::Html => "text/html; charset=utf-8",
    }
}

/// How a column's values are written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    /// JSON itself.
    Json,
    Text,
}

impl Kind {
    /// By `pg_type.oid`: bool; int8, int2, int4, oid, float4, float8, numeric; json, jsonb.
    fn of(oid: u32) -> Kind {
        match oid {
            16 => Kind::Bool,
            20 | 21 | 23 | 26 | 700 | 701 | 1700 => Kind::Number,
            114 | 3802 => Kind::Json,
            _ => Kind::Text,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Page<'r> {
    report: &'r Report,
    /// Names of the columns, as they are written, and kinds.
    columns: Vec<(Vec<u8>, Kind)>,
    out: Vec<u8>,
    rows: usize,
}

impl<'r> Page<'r> {
    /// An empty one.
    pub fn new(report: &'r Report) -> Page<'r> {
        Page { report, columns: Vec::new(), out: Vec::new(), rows: 0 }
    }

    /// All of it.
    ///
    /// # Errors
    /// It is larger than it may be.
    pub fn finish(mut self) -> Result<Vec<u8>, Fault> {
        self.out.extend_from_slice(match self.report.format {
            ReportFormat::Json if self.rows == 0 => b"[]\n",
            ReportFormat::Json => b"\n]\n",
            ReportFormat::Csv => b"",
            ReportFormat::Html => b"</tbody>\n</table>\n</html>\n",
        });
        self.fits()?;
        Ok(self.out)
    }

    fn fits(&self) -> Result<(), Fault> {
        if self.out.len() > self.report.max_bytes {
            return Err(Fault::Large("report.max_bytes"));
        }
        Ok(())
    }

    fn head(&mut self) {
        let names: Vec<&[u8]> = self.columns.iter().map(|(name, _)| name.as_slice()).collect();
        match self.report.format {
            ReportFormat::Json => {}
            ReportFormat::Csv => line(&mut self.out, names.into_iter().map(Some)),
            ReportFormat::Html => {
                self.out.extend_from_slice(b"<!doctype html>\n<html>\n<meta charset=\"utf-8\">\n<title>");
                escaped(&mut self.out, self.report.name.as_bytes());
                self.out.extend_from_slice(b"</title>\n<table>\n<thead>\n");
                cells(&mut self.out, "th", names.into_iter().map(Some));
                self.out.extend_from_slice(b"</thead>\n<tbody>\n");
            }
        }
    }

    fn object(&mut self, values: &[Option<&[u8]>]) -> Result<(), Fault> {
        let unwritable = |_| Fault::Query("it cannot be written as JSON".into());
        self.out.extend_from_slice(if self.rows == 0 { b"[\n{" } else { b",\n{" });
        for (i, ((name, kind), value)) in self.columns.iter().zip(values).enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(name);
            self.out.push(b':');
            match (kind, value) {
                (_, None) => self.out.extend_from_slice(b"null"),
                (Kind::Bool, Some(b"t")) => self.out.extend_from_slice(b"true"),
                (Kind::Bool, Some(_)) => self.out.extend_from_slice(b"false"),
                (Kind::Json, Some(json)) => self.out.extend_from_slice(json),
                (Kind::Number, Some(number)) if is_finite(number) => self.out.extend_from_slice(number),
                (_, Some(text)) => {
                    serde_json::to_writer(&mut self.out, &String::from_utf8_lossy(text))
                        .map_err(unwritable)?;
                }
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// Postgres writes numbers as JSON does, but for NaN and the infinities.
fn is_finite(number: &[u8]) -> bool {
    number.last().is_some_and(u8::is_ascii_digit)
}

impl Sink for Page<'_> {
    fn columns(&mut self, columns: Vec<Column>) {
        let is_json = self.report.format == ReportFormat::Json;
        let written = |column: Column| {
            // A text can be written.
            let json = || serde_json::to_vec(&column.name).unwrap_or_default();
            let name = if is_json { json() } else { column.name.clone().into_bytes() };
            (name, Kind::of(column.oid))
        };
        self.columns = columns.into_iter().map(written).collect();
        self.head();
    }

    fn row(&mut self, values: &[Option<&[u8]>]) -> Result<(), Fault> {
        if self.rows >= self.report.max_rows {
            return Err(Fault::Large("report.max_rows"));
        }
        match self.report.format {
            ReportFormat::Json => self.object(values)?,
            ReportFormat::Csv => line(&mut self.out, values.iter().copied()),
            ReportFormat::Html => cells(&mut self.out, "td", values.iter().copied()),
        }
        self.rows += 1;
        self.fits()
    }
}

/// A line of CSV as COPY writes it: NULL is nothing, and an empty text is quoted, which no crate for CSV tells apart.
fn line<'v>(out: &mut Vec<u8>, values: impl Iterator<Item = Option<&'v [u8]>>) {
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let Some(text) = value else { continue };
        let plain = !text.is_empty() && !text.iter().any(|b| matches!(b, b'"' | b',' | b'\r' | b'\n'));
        if plain {
            out.extend_from_slice(text);
            continue;
        }
        out.push(b'"');
        for byte in text {
            out.push(*byte);
            if *byte == b'"' {
                out.push(b'"');
            }
        }
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\n");
}

fn cells<'v>(out: &mut Vec<u8>, tag: &str, values: impl Iterator<Item = Option<&'v [u8]>>) {
    out.extend_from_slice(b"<tr>");
    for value in values {
        out.extend_from_slice(format!("<{tag}>").as_bytes());
        escaped(out, value.unwrap_or_default());
        out.extend_from_slice(format!("</{tag}>").as_bytes());
    }
    out.extend_from_slice(b"</tr>\n");
}

/// Text that means nothing else in HTML.
fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::tests::report;

    const ROWS: [[Option<&[u8]>; 3]; 2] =
        [[Some(b"1.50"), Some(b"a \"b\", <c>"), Some(b"t")], [Some(b"NaN"), None, Some(b"f")]];

    fn page(format: ReportFormat, rows: &[[Option<&[u8]>; 3]], max_bytes: usize) -> Result<String, Fault> {
        let report = Report { format, max_rows: 2, max_bytes, ..report() };
        let mut page = Page::new(&report);
        let columns = [("n", 1700), ("it's", 25), ("ok", 16)];
        page.columns(columns.map(|(name, oid)| Column { name: name.into(), oid }).to_vec());
        rows.iter().try_for_each(|row| page.row(row))?;
        page.finish().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn formats() {
        let json = page(ReportFormat::Json, &ROWS, 1000).unwrap();
        assert_eq!(
            json,
            "[\n{\"n\":1.50,\"it's\":\"a \\\"b\\\", <c>\",\"ok\":true},\n{\"n\":\"NaN\",\"it's\":null,\"ok\":false}\n]\n"
        );
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        assert_eq!(page(ReportFormat::Json, &[], 1000).unwrap(), "[]\n");
        let csv = page(ReportFormat::Csv, &ROWS, 1000).unwrap();
        assert_eq!(csv, "n,it's,ok\r\n1.50,\"a \"\"b\"\", <c>\",t\r\nNaN,,f\r\n");
        let html = page(ReportFormat::Html, &ROWS, 1000).unwrap();
        assert!(
            html.contains("<th>it&#39;s</th>") && html.contains("<td>a &quot;b&quot;, &lt;c&gt;</td><td>t")
        );
    }

    #[test]
    fn bounds() {
        let large = |result: Result<String, Fault>| result.unwrap_err();
        assert_eq!(large(page(ReportFormat::Csv, &ROWS, 20)), Fault::Large("report.max_bytes"));
        let three = [ROWS[0], ROWS[1], ROWS[0]];
        assert_eq!(large(page(ReportFormat::Csv, &three, 1000)), Fault::Large("report.max_rows"));
    }
}
