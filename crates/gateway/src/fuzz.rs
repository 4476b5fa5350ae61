//! Doors for the fuzzer (`fuzz/`): what has to hold whatever a peer sends.

#![expect(clippy::unwrap_used, reason = "a panic is what is looked for")]

use std::borrow::Cow;

use crate::{balance, connection, path, table};

/// Requests as clients send them: read in parts or whole they are the same, each is framed in one way, and its normal form
/// is read as the same request.
pub fn requests(bytes: &[u8]) {
    connection::fuzz(bytes);
}

/// Answers as targets send them: read in parts or whole they are the same.
pub fn answers(bytes: &[u8]) {
    balance::fuzz(bytes);
}

/// Paths: what has one form keeps it, and holds nothing that has two readings.
pub fn paths(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(form) = path::normalize(text) else { return };
    let again = path::normalize(&form).map(Cow::into_owned);
    assert_eq!(again.as_deref(), Ok(&*form), "the form is stable");
    assert!(form.starts_with('/') && !form.contains("//"), "{form}");
    let lower = form.to_ascii_lowercase();
    for bad in ["%2f", "%5c", "%00", "%2e", "\\", "%c0", "%c1"] {
        assert!(!lower.contains(bad), "{form} holds {bad}");
    }
    for segment in lower.split('/') {
        let name = segment.split(';').next().unwrap().split("%3b").next().unwrap();
        assert!(name != "." && name != "..", "{form}");
    }
    assert!(form.bytes().all(|byte| byte.is_ascii_graphic()), "{form}");
}

/// Routes and operations: what is found is what a plain search finds.
pub fn routes(bytes: &[u8]) {
    table::fuzz(bytes);
}
