//! The binary: reads the command line and hands over.

mod control;
mod demo_command;
mod doctor;
mod installation;
mod keys;
mod logging;
mod post;
mod remote;
mod serve;
mod tls;
mod traces;
mod validate;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Gives freed memory back: after a burst of work the system allocator would keep several times as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A healthcare API marketplace with its own gateway.
#[derive(Parser)]
#[command(name = "caduceus", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start with sample tenants, APIs and upstreams, and print how to call them.
    Demo(demo_command::DemoArgs),
    /// Start the control plane, the gateway, or both.
    Serve(serve::ServeArgs),
    /// Check specifications and say what is wrong with them, and where.
    Validate(validate::ValidateArgs),
    /// Look after keys: check the form of an API key, list and rotate signing keys.
    Keys(keys::KeysArgs),
    /// Look for what is wrong with an installation.
    Doctor(doctor::DoctorArgs),
}

/// Where the configuration comes from.
#[derive(clap::Args)]
struct ConfigArgs {
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder, over the one in the configuration.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// URL of the database (sqlite: or postgres:), over the one in the configuration.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl ConfigArgs {
    fn load(&self) -> Result<config::Settings, config::ConfigError> {
        let mut settings = config::Settings::load(self.config.as_deref())?;
        if let Some(dir) = &self.data_dir {
            settings.data_dir.clone_from(dir);
        }
        if let Some(url) = &self.database_url {
            settings.database.url = Some(config::Secret::new(url.clone()));
        }
        settings.check()?;
        Ok(settings)
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo_command::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Validate(args) => return validate::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            logging::report(&error);
            ExitCode::from(2)
        }
    }
}
