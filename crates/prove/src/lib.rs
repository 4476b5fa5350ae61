//! Proves that tenants are apart, by trying.
//!
//! In an empty installation two tenants are made. One has something of everything, none of it shown to the other. Then
//! somebody of the other, in every role and with no token at all, performs every operation that the control API
//! describes, once with the identifiers of what the first tenant has and once with identifiers that nobody has. Both answers
//! have to be the same in status, headers and body, or else the one who asks has learnt something. Nothing that is
//! answered without naming the first tenant may contain any of its identifiers or words. The gateway is asked likewise.
//!
//! That an attempt means something is tried as well: a person of the first tenant has to be let through with the same
//! identifiers.

mod client;
mod compare;
mod operations;
mod probe;
mod report;
mod targets;
mod world;

pub use client::ProveError;
pub use report::{Leak, Report};
pub use targets::Targets;

use client::Client;
use probe::Prober;
use world::World;

/// Where an installation is reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The control listener, as `http://host:port`.
    pub control: String,
    /// The gateway, likewise.
    pub gateway: String,
}

/// The password of everybody whom the proof makes.
pub const PASSWORD: &str = "kept for as long as the proof runs";

/// Fills an empty installation, to be set up with this token, and tries to get from one tenant to the other.
///
/// # Errors
///
/// When the installation does not answer, or not as its own description says; then nothing is proven.
pub async fn prove(addresses: &Addresses, set_up_token: &str) -> Result<Report, ProveError> {
    let nobody = Client::new(&addresses.control)?;
    let world = World::create(&nobody, set_up_token).await?;
    let operations = operations::read(&nobody).await?;
    let mut prober = Prober::new(&world, &operations);
    prober.check_attempts().await?;
    for (role, person) in world.intruders() {
        prober.walk(role, person).await?;
    }
    prober.call(&Client::new(&addresses.gateway)?).await?;
    Ok(prober.report())
}
