//! What was tried, and what came of it.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was tried, and what came of it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Operations of the control API that were tried.
    pub operations: usize,
    /// Attempts by role; `nobody` has no token, and `gateway` stands for calls of the gateway.
    pub attempts: BTreeMap<String, usize>,
    /// Everything that somebody learnt.
    pub leaks: Vec<Leak>,
}

/// Something that one tenant learnt of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leak {
    /// In which role.
    pub role: String,
    /// By which operation.
    pub operation: String,
    /// What was asked.
    pub asked: String,
    /// What was learnt.
    pub learnt: String,
}

impl Report {
    /// All attempts.
    pub fn total(&self) -> usize {
        self.attempts.values().sum()
    }

    pub(crate) fn count(&mut self, role: &str) {
        *self.attempts.entry(role.to_owned()).or_default() += 1;
    }
}
