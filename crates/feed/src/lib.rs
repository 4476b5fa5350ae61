//! The link between the control plane and gateways on other machines: TLS 1.3 in which both sides show certificates of
//! the installation's own authority, and few requests over it.
//!
//! A gateway asks what it is to be told (`follow`), ships what it counted (`usage`), and renews its certificate
//! (`renew`). Only the first request of its life (`enrol`) shows no certificate: it carries a one-time token, which
//! also says by a fingerprint whom to trust.

mod client;
mod enrol;
mod follower;
mod server;
mod tls;
mod wire;

pub use client::CallError;
pub use enrol::{EnrolError, Identity, enrol};
pub use follower::{FeedState, Follower};
pub use server::serve;
