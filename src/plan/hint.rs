//! What a comment asks for: `/* turnpike: route=primary, consistency=eventual */`.

use crate::config::{CacheAsk, Directions};
use crate::sql::shape::Shape;

/// The words of the comment that speaks to us, each a key and a value.
fn words(text: &[u8], shape: &Shape) -> Vec<(String, String)> {
    let hint = shape.hint.as_ref().and_then(|hint| text.get(hint.start as usize..hint.end as usize));
    let said = String::from_utf8_lossy(hint.unwrap_or_default());
    let words = said.split_once(':').map_or("", |(_, words)| words).split([' ', ',', ';', '\t', '\r', '\n']);
    let pairs = words.filter_map(|word| word.split_once('='));
    pairs.map(|(key, value)| (key.to_ascii_lowercase(), value.to_string())).collect()
}

/// What it asks for of the cache, the last word last.
pub fn asks_cache(text: &[u8], shape: &Shape) -> Option<CacheAsk> {
    let words = words(text, shape);
    words.iter().rev().filter(|(key, _)| key == "cache").find_map(|(_, value)| CacheAsk::read(value))
}

/// What the comment says that speaks to us, if it says anything that is known. What is not known is as if it were not
/// there: comments are no statements, and have no errors.
pub fn directions(text: &[u8], shape: &Shape) -> Option<Box<Directions>> {
    shape.hint.as_ref()?;
    let mut directions = Directions::default();
    for (key, value) in words(text, shape) {
        let _ = directions.say(&key, &value);
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

    #[test]
    fn what_is_asked_of_the_cache() {
        let asks = |sql: &str| {
            let mut shape = Shape::default();
            shape.read(sql.as_bytes(), true);
            asks_cache(sql.as_bytes(), &shape)
        };
        let minute = CacheAsk::For(std::time::Duration::from_secs(60));
        assert_eq!(asks("/* turnpike: cache=1min */ SELECT 1"), Some(minute));
        assert_eq!(asks("SELECT 1 -- turnpike: route=primary, CACHE=off"), Some(CacheAsk::Off));
        assert_eq!(asks("/* turnpike: cache=on cache=perhaps */ SELECT 1"), Some(CacheAsk::On));
        assert_eq!(asks("/* cache=on */ SELECT 1"), None);
    }

    proptest! {
        #[test]
        fn never_panics(words in "([a-z_]{0,8}|route|consistency|=|,| |:|é|\\*){0,12}") {
            said(&format!("/* turnpike: {words} */ SELECT 1"));
        }
    }
}
