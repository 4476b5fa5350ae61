//! The only reader of configuration files and the environment.

#![expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]

mod data_dir;
mod settings;

pub use data_dir::{DataDir, DataDirError};
pub use settings::{
    ConfigError, Control, ControlTls, DatabaseSettings, Feed, Gateway, GatewayTls, Log, LogFormat,
    LogLevel, NetworkSettings, Notices, Portal, Secret, Settings, Smtp, SmtpTls, Specifications,
    Tracing, WhenTooOld,
};

/// A variable of the environment, when it is set and is text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Every setting with its default and a line of explanation.
pub const DEFAULT_FILE: &str = include_str!("../../../config/default.yaml");
