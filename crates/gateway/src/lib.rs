//! The data plane: carries calls from applications to the targets behind the APIs.
//!
//! It decides by an immutable structure and the roster of callers, both of which it is told, and needs no database. Each worker is a thread with its own event loop, its own
//! listener on the shared port, its own connections to targets and its own usage journal; workers share only the
//! compiled structure, the roster and atomic counters. The journey of a call is in `call`, one stage per file in `stages`.

#![warn(clippy::indexing_slicing)]

mod access_log;
mod balance;
mod body;
mod call;
mod coding;
mod connection;
mod date;
mod fields;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod gateway;
mod headers;
mod keeper;
mod limits;
mod metrics;
mod path;
mod random;
mod rejection;
mod roster;
mod settings;
mod stages;
mod supervisor;
mod table;
mod tls;
mod told;
mod trace;
mod trailers;
mod usage;
mod worker;

pub use gateway::{Gateway, GatewayStatus, StartError};
pub use settings::{
    AccessLogDestination, AccessLogSettings, CredentialKey, GatewayKeys, GatewaySettings,
    TlsSettings, TracingSettings, WhenTooOld,
};
pub use table::PublishError;
pub use tls::{CertificateError, CertificateStatus, Certificates};
pub use trace::{AttributeValue, Span, SpanKind, Spans};
