//! What the access log may say of a call.

use serde::{Deserialize, Serialize};

/// A field of the access log. There is none for paths, queries, headers or bodies: those may hold health data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "explained in docs/operate.md")]
pub enum AccessField {
    Time,
    RequestId,
    TraceId,
    Client,
    Protocol,
    Method,
    Route,
    Tenant,
    Api,
    Version,
    Deployment,
    Application,
    Credential,
    Status,
    Fault,
    DurationMs,
    UpstreamMs,
    RequestBytes,
    ResponseBytes,
}

impl AccessField {
    /// All fields, in the order in which they are written.
    pub const ALL: [Self; 19] = [
        Self::Time,
        Self::RequestId,
        Self::TraceId,
        Self::Client,
        Self::Protocol,
        Self::Method,
        Self::Route,
        Self::Tenant,
        Self::Api,
        Self::Version,
        Self::Deployment,
        Self::Application,
        Self::Credential,
        Self::Status,
        Self::Fault,
        Self::DurationMs,
        Self::UpstreamMs,
        Self::RequestBytes,
        Self::ResponseBytes,
    ];
}
