//! The client's role in SCRAM: whatever a server sends, nothing panics and no impostor is believed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::wire::scram::{ChannelBinding, ClientExchange, Credential};

fuzz_target!(|input: (bool, &[u8], &[u8])| {
    let (echo, first, last) = input;
    let credential = Credential::Password("secret".to_string());
    let Ok((mut exchange, _)) = ClientExchange::start(credential, ChannelBinding::None, false) else { return };
    let hello = exchange.client_first();
    let mut message = first.to_vec();
    if echo {
        // Past the check of the nonce: ours first, then whatever comes.
        let ours = hello.rsplit(|&b| b == b'=').next().unwrap_or_default();
        message = [b"r=", ours, first].concat();
    }
    // The work asked for is bounded by the implementation; here it would only slow the search.
    if message.windows(2).any(|w| w == b"i=") && message.len() > 2 && !message.ends_with(b"i=1") {
        return;
    }
    let _ = exchange.server_first(&message);
    assert!(exchange.server_final(last).is_err());
});
