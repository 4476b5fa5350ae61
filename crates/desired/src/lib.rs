//! An installation as one file: what should be there, by natural names.
//!
//! `read` turns a YAML file into [`Desired`], [`State`] reads what is there over the control API, [`Plan`] compares the
//! two, [`apply()`] takes the steps, and `write` makes a file of what is there. Nothing here goes around the control API:
//! whoever applies a file needs the same rights as for doing the same by hand, and leaves the same audit trail.

mod apply;
mod client;
mod compare;
mod document;
mod file;
mod plan;
mod read;
mod references;
mod state;
mod write;

pub use apply::{Applied, Invitation, apply};
pub use client::{Client, ClientError, Problem, SignIn};
pub use compare::Difference;
pub use document::{Mistake, Source};
pub use file::{
    ApiEntry, ApiReference, ApplicationEntry, CategoryEntry, DeploymentEntry, Desired, PersonEntry,
    PlanEntry, SettingsEntry, SubscriptionEntry, SubscriptionGoal, TenantEntry, TenantReference,
    VersionEntry, VersionGoal, schema,
};
pub use plan::{Change, Obstacle, Plan, Removal, Step};
pub use read::read;
pub use state::State;
pub use write::{Specifications, write};
