//! What a comment asks for: `/* turnpike: route=primary, consistency=eventual */`.

use crate::config::Directions;
use crate::sql::shape::Shape;

/// What the comment says that speaks to us, if it says anything that is known. What is not known is as if it were not
/// there: comments are no statements, and have no errors.
pub fn directions(text: &[u8], shape: &Shape) -> Option<Box<Directions>> {
    let hint = shape.hint.as_ref()?;
    let said = text.get(hint.start as usize..hint.end as usize).unwrap_or_default();
    let said = String::from_utf8_lossy(said);
    let (_, words) = said.split_once(':')?;
    let mut directions = Directions::default();
    for word in words.split([' ', ',', ';', '\t', '\r', '\n']) {
        if let Some((key, value)) = word.split_once('=') {
            let _ = directions.say(&key.to_ascii_lowercase(), value);
        }
    }
    (!directions.is_empty()).then(|| Box::new(directions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(sql: &str) -> String {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        let directions = directions(sql.as_bytes(), &shape);
        let said = directions.map(|d| d.said()).unwrap_or_default();
        said.into_iter().map(|(key, value)| format!("{key}={value} ")).collect::<String>().trim().into()
    }

    #[test]
    fn comments() {
        for (sql, want) in [
            ("/* turnpike: route=primary */ SELECT 1", "route=primary"),
            ("-- Turnpike: ROUTE=Primary\nSELECT 1", "route=primary"),
            ("SELECT /* turnpike: route=db2, consistency=eventual */ 1", "route=db2 consistency=eventual"),
            ("SELECT 1 /* turnpike: max_lag=5s;replica_wait=20 */", "max_lag=5s replica_wait=20ms"),
            ("/* turnpike: route=replica route=auto */ SELECT 1", "route=auto"),
            ("/* turnpike: colour=red consistency=strong */ SELECT 1", ""),
            ("/* turnpike */ SELECT 1", ""),
            ("SELECT '/* turnpike: route=primary */'", ""),
        ] {
            assert_eq!(said(sql), want, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(words in "([a-z_]{0,8}|route|consistency|=|,| |:|é|\\*){0,12}") {
            said(&format!("/* turnpike: {words} */ SELECT 1"));
        }
    }
}
