//! Limits, as plans and deployments have them.

use market::LimitDraft;
use model::{Limit, LimitScope, Slug};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A limit: either `requests` in `windowSeconds`, or `concurrent` calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitBody {
    /// Names the limit in headers and errors.
    name: Slug,
    per: LimitScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests: Option<u32>,
    /// Calls that are in flight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window_seconds: Option<u32>,
    /// How many requests may come at once; all of a window when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
}

impl From<LimitBody> for LimitDraft {
    fn from(body: LimitBody) -> Self {
        let LimitBody { name, per, requests, concurrent, window_seconds, burst } = body;
        Self { name, per, requests, concurrent, window_seconds, burst }
    }
}

impl From<LimitDraft> for LimitBody {
    fn from(draft: LimitDraft) -> Self {
        let LimitDraft { name, per, requests, concurrent, window_seconds, burst } = draft;
        Self { name, per, requests, concurrent, window_seconds, burst }
    }
}

impl From<Limit> for LimitBody {
    fn from(limit: Limit) -> Self {
        LimitDraft::from(limit).into()
    }
}
