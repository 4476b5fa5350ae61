//! The targets behind a route: which one takes a call, how it is reached, and whether it is well.

mod check;
mod chunks;
mod exchange;
mod pool;
mod resolve;
mod target;

pub(crate) use check::HealthChecks;
pub(crate) use exchange::{AnswerHead, RequestHead, UpstreamConnection};
pub(crate) use pool::{ConnectError, Pool, connect};
pub(crate) use resolve::Endpoints;
pub(crate) use target::{Target, Upstream};
