//! All SQL of Caduceus: one module per aggregate, the same statements for SQLite and PostgreSQL.
//!
//! Every function takes the transaction first and the viewing or owning tenant second, does one thing in one or few
//! statements, and returns model types. Where the engines differ, `dialect` says how. Nothing here decides who may
//! do what, beyond hiding what a tenant may not see.

pub mod account;
pub mod api;
pub mod api_review;
pub mod application;
pub mod audit;
pub mod category;
pub mod credential;
pub mod deployment;
pub mod event;
pub mod failed_call;
pub mod idempotency;
pub mod letter;
pub mod node;
pub mod notice;
pub mod personal_data;
pub mod plan;
pub mod portal_session;
pub mod roster;
pub mod second_factor;
pub mod session;
pub mod setting;
pub mod signing_key;
pub mod specification;
pub mod subscription;
pub mod tenant;
pub mod usage;
pub mod version;

mod database;
mod dialect;
mod error;
mod migration;
mod page;
mod planted;
mod row;
mod row_security;
mod viewer;

pub use database::{Database, Tx};
pub use dialect::Engine;
pub use error::StoreError;
pub use page::{Page, PageOf};
pub use planted::Planted;
pub use viewer::Viewer;
