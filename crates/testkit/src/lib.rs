//! What the tests of the whole system need: the real binary on a real database, people of every role, upstreams that
//! behave and upstreams that do not.
//!
//! Everything is started on free ports and in folders of its own, and ends with the test.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "tests fail by panicking, are steered by the environment and measure real time"
)]

mod authenticator_app;
mod client;
mod database;
mod document;
mod fault_proxy;
mod installation;
mod mail_server;
mod node;
mod postgres;
mod sql;
mod tenant;
mod upstream;
mod wait;
mod wire;

pub use authenticator_app::AuthenticatorApp;
pub use client::{Answer, Call, Client};
pub use database::Database;
pub use document::{openapi_json, openapi_yaml};
pub use fault_proxy::{Fault, FaultProxy};
pub use installation::Installation;
pub use mail_server::MailServer;
pub use node::Node;
pub use postgres::Postgres;
pub use sql::Sql;
pub use tenant::{Api, ApiKey, PASSWORD, Tenant};
pub use upstream::{Behaviour, Upstream};
pub use wait::{eventually, from_now};
pub use wire::{exchange, flood};

/// Runs each test once on SQLite and once on PostgreSQL, each time with a database of its own.
///
/// ```text
/// testkit::on_both_databases! {
///     async fn a_rule_that_holds(database: Database) { … }
/// }
/// ```
#[macro_export]
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* async fn $name:ident($database:ident: Database) $body:block)*) => {$(
        $(#[$attribute])*
        async fn $name($database: $crate::Database) $body

        mod $name {
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                Box::pin(super::$name($crate::Database::sqlite())).await;
            }

            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                Box::pin(super::$name($crate::Database::postgres().await)).await;
            }
        }
    )*};
}
