//! Limits of calls.

use serde::{Deserialize, Serialize};

use crate::Slug;

/// So many requests in a window, or so many at once, counted per something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Names the limit in headers and errors.
    pub name: Slug,
    /// What has a count of its own.
    pub per: LimitScope,
    /// What is counted, and how much of it is allowed.
    pub amount: LimitAmount,
}

/// What has a count of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// All applications of a consumer's tenant together.
    Tenant,
    /// One application.
    Application,
    /// One credential.
    Credential,
    /// All callers of the route together.
    Route,
}

/// What is counted, and how much of it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LimitAmount {
    /// A rate: `requests` in each `window_seconds`, of which `burst` may come at once.
    Rate {
        /// Requests in a window, at least 1.
        requests: u32,
        /// Length of the window in seconds, at least 1.
        window_seconds: u32,
        /// How many may come at once, at least 1.
        burst: u32,
    },
    /// Calls that are in flight at once.
    Concurrent {
        /// How many, at least 1.
        calls: u32,
    },
}
