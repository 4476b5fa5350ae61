//! The demo: sample upstreams on this machine, and tenants, people, APIs and agreements to try things with.

mod record;
mod seed;
mod upstreams;

pub use record::{Account, DemoApplication, DemoRecord};
pub use seed::{SeedError, seed, update_targets};
pub use upstreams::Upstreams;
