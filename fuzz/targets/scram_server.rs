//! The server's role in SCRAM: whatever a client sends, nothing panics and nothing is proved without the password.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use turnpike::wire::scram::{ChannelBinding, Outcome, PLAIN, PLUS, ServerExchange, Verifier};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::from_password("secret", b"0123456789abcdef", 1));

fuzz_target!(|input: (bool, bool, &[u8], &[u8])| {
    let (bound, plus, first, last) = input;
    let binding = if bound { ChannelBinding::Endpoint(vec![7; 32]) } else { ChannelBinding::None };
    let mut exchange = ServerExchange::new(VERIFIER.clone(), binding, "nonce".to_string());
    let _ = exchange.client_first(if plus { PLUS } else { PLAIN }, first);
    assert!(!matches!(exchange.client_final(last), Ok(Outcome::Proved { .. })));
    if let Ok(text) = std::str::from_utf8(first) {
        let _ = Verifier::parse(text);
    }
});
