//! The startup phase: no bytes panic, and what is built from what was read reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::wire::startup::{self, Parsed, Request};

fuzz_target!(|bytes: &[u8]| {
    match startup::parse(bytes) {
        Ok(Parsed::Complete { request: Request::Startup(s), len }) => {
            assert!(len <= bytes.len());
            let _ = startup::negotiate(&s);
            let _ = s.options.as_deref().map(startup::parse_options);
            let mut params = vec![("user", s.user.as_str()), ("database", s.database.as_str())];
            params.extend(s.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let built = startup::build_startup(s.minor, &params);
            if let Ok(Parsed::Complete { request: Request::Startup(again), .. }) = startup::parse(&built) {
                assert_eq!((again.user, again.settings), (s.user, s.settings));
            }
        }
        Ok(Parsed::Complete { request: Request::Cancel { pid, key }, len }) => {
            assert_eq!(startup::build_cancel(pid, &key), bytes[..len]);
        }
        Ok(Parsed::Incomplete { need }) => assert!(need > bytes.len()),
        _ => {}
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = startup::parse_options(text);
    }
});
