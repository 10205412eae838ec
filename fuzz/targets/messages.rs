//! Views of message bodies, and the bodies that carry secrets: no bytes panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnpike::core::error::Error;
use turnpike::wire::message::{ErrorFields, TxStatus, command_tag, parameter_status};
use turnpike::wire::{password, reply};

fuzz_target!(|bytes: &[u8]| {
    let fields = ErrorFields::of(bytes);
    let _ = (fields.is_fatal(), fields.sqlstate(), fields.text());
    let _ = (TxStatus::of(bytes), command_tag(bytes), parameter_status(bytes));
    let _ = (password::password_message(bytes), password::sasl_initial(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let mut out = Vec::new();
        reply::error(&mut out, &Error::protocol(text.to_string()));
        let expected: String = text.chars().filter(|&c| c != '\0').collect();
        assert_eq!(ErrorFields::of(&out).text(), expected);
    }
});
