//! The targets behind a route: which one takes a call, how it is reached, and whether it is well.

mod check;
mod pool;
mod resolve;
mod target;

pub(crate) use check::HealthChecks;
pub(crate) use pool::{ConnectError, Pool, UpstreamConnection, connect};
pub(crate) use resolve::Endpoints;
pub(crate) use target::{Target, Upstream};
