//! What a URL asks for: the values of a report's parameters, and what shows that it may.

use std::fmt::Write;

use crate::config::Report;

/// When a signed URL is of no use any more, in seconds since the epoch.
pub const EXPIRES: &str = "expires";
/// What it is signed with.
pub const SIGNATURE: &str = "signature";

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Names and values as they were given, but for the signature.
    pub pairs: Vec<(String, String)>,
    /// The signature.
    pub signature: Option<String>,
}

/// Whether nothing of it would be read as something else: `%` stands before two digits, and what they mean is UTF-8.
fn is_spelt(query: &str) -> bool {
    let mut parts = query.as_bytes().split(|byte| *byte == b'%');
    let mut meant = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let Some((digits, rest)) = part.split_first_chunk::<2>() else { return false };
        let mut byte = [0];
        if hex::decode_to_slice(digits, &mut byte).is_err() {
            return false;
        }
        meant.extend_from_slice(&byte);
        meant.extend_from_slice(rest);
    }
    std::str::from_utf8(&meant).is_ok()
}

/// The parts of a query string (URL Standard, "application/x-www-form-urlencoded").
///
/// # Errors
/// What that standard would have read as something else.
pub fn read(query: &str) -> Result<Asked, String> {
    if !is_spelt(query) {
        return Err("the parameters are not percent-encoded UTF-8".into());
    }
    let mut asked = Asked::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == SIGNATURE && asked.signature.is_none() {
            asked.signature = Some(value.into_owned());
        } else {
            asked.pairs.push((name.into_owned(), value.into_owned()));
        }
    }
    Ok(asked)
}

impl Asked {
    /// What was given for a name; the first of several.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The values of a report's parameters, in order.
    ///
    /// # Errors
    /// What is given and not asked for, twice, or not at all. Nothing that is not understood is passed over: each way to
    /// write a URL is a place of its own in a cache.
    pub fn values(&self, report: &Report, is_signed: bool) -> Result<Vec<Option<String>>, String> {
        for (i, (name, value)) in self.pairs.iter().enumerate() {
            if self.pairs.iter().take(i).any(|(other, _)| other == name) {
                return Err(format!("parameter \"{name}\" is given twice"));
            }
            if value.contains('\0') {
                return Err(format!("parameter \"{name}\" has a zero byte in it"));
            }
            let known = report.params.iter().any(|p| p.name == *name) || is_signed && name == EXPIRES;
            if !known {
                let names: Vec<_> = report.params.iter().map(|p| p.name.as_str()).collect();
                let has = if names.is_empty() { "none".into() } else { names.join(", ") };
                return Err(format!("there is no parameter \"{name}\"; this report has {has}"));
            }
        }
        let value = |param: &crate::config::Param| match (self.get(&param.name), &param.default) {
            (Some(value), _) => Ok(Some(value.to_string())),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err(format!("parameter \"{}\" ({}) is missing", param.name, param.kind)),
        };
        report.params.iter().map(value).collect()
    }
}

/// What tells a result from others of its report.
pub fn key(values: &[Option<String>]) -> String {
    let mut key = String::new();
    for value in values {
        // Writing to a text does not fail.
        let _ = match value {
            Some(text) => write!(key, "{}:{text},", text.len()),
            None => write!(key, "-,"),
        };
    }
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Param;
    use crate::report::tests::report;

    fn param(name: &str, default: Option<Option<&str>>) -> Param {
        let default = default.map(|value| value.map(str::to_string));
        Param { name: name.into(), kind: "text", oid: 25, default }
    }

    #[test]
    fn values_are_found_or_missed() {
        let params = vec![param("who", None), param("what", Some(Some("all"))), param("when", Some(None))];
        let report = Report { params, ..report() };
        let of = |query: &str| read(query)?.values(&report, false).map(|values| key(&values));
        assert_eq!(of("who=a+b%26").unwrap(), "4:a b&,3:all,-,");
        assert_eq!(of("what=&who=x&when=1").unwrap(), "1:x,0:,1:1,");
        assert_eq!(of("what=x").unwrap_err(), "parameter \"who\" (text) is missing");
        assert_eq!(of("who=a&who=b").unwrap_err(), "parameter \"who\" is given twice");
        let unknown = "there is no parameter \"x\"; this report has who, what, when";
        assert_eq!(of("who=a&x=1").unwrap_err(), unknown);
        assert!(of("who=%00").unwrap_err().contains("zero byte"));
        assert_eq!(of("who=%C3%a9%25").unwrap(), "3:é%,3:all,-,");
        for wrong in ["%ff", "%zz", "%", "%4", "%c3", "%c3&what=%a9", "%+1"] {
            let refused = of(&format!("who={wrong}")).unwrap_err();
            assert_eq!(refused, "the parameters are not percent-encoded UTF-8", "{wrong}");
        }
        assert!(
            of("who=a&expires=1").is_err() && read("who=a&expires=1").unwrap().values(&report, true).is_ok()
        );
    }

    #[test]
    fn no_two_lists_of_values_have_one_key() {
        let of =
            |values: &[Option<&str>]| key(&values.iter().map(|v| v.map(str::to_string)).collect::<Vec<_>>());
        assert_ne!(of(&[Some("1:a,"), None]), of(&[Some("1:a"), Some("")]));
        assert_ne!(of(&[None]), of(&[Some("")]));
        assert_ne!(of(&[Some("a"), Some("b")]), of(&[Some("a,1:b")]));
    }
}
