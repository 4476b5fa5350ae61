//! The log, and errors that end the process.

use std::io::Write;

use config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::LevelFilter;

/// Starts the log on standard error.
pub(crate) fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    let result = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = result {
        report(&anyhow::anyhow!("the log could not be started: {error}"));
    }
}

/// Says on standard error why the process ends, with all causes.
pub(crate) fn report(error: &anyhow::Error) {
    // There is nobody left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "caduceus: {error:#}"));
}
