//! The binary: reads the command line and hands over.

mod connect;
mod control;
mod demo_command;
mod desired_command;
mod doctor;
mod forwarded;
mod installation;
mod keys;
mod logging;
mod output;
mod post;
mod progress;
mod ready;
mod remote;
mod serve;
mod tenant_command;
mod tls;
mod traces;
mod validate;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

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
    /// Compare a file with an installation, and say what would have to be done.
    Plan(desired_command::PlanArgs),
    /// Bring about what a file says; what it does not name stays.
    Apply(desired_command::ApplyArgs),
    /// Bring about what a file says, and take away what it does not name.
    Sync(desired_command::SyncArgs),
    /// Write an installation as a file.
    Dump(desired_command::DumpArgs),
    /// Print the JSON Schema of that file.
    Schema,
    /// Look after keys: check the form of an API key, list and rotate signing keys.
    Keys(keys::KeysArgs),
    /// Ask the installation on this machine whether it is ready.
    Ready(ready::ReadyArgs),
    /// Look for what is wrong with an installation.
    Doctor(doctor::DoctorArgs),
    /// What concerns tenants as a whole.
    #[command(subcommand)]
    Tenant(tenant_command::TenantCommand),
    /// Print what a shell needs to complete commands and options.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
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
        Command::Ready(args) => ready::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Plan(args) => desired_command::plan(&args),
        Command::Apply(args) => desired_command::apply(&args),
        Command::Sync(args) => desired_command::sync(&args),
        Command::Dump(args) => desired_command::dump(&args),
        Command::Schema => desired_command::schema(),
        Command::Tenant(command) => tenant_command::run(&command),
        Command::Completions { shell } => return complete(shell),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            logging::report(&error);
            ExitCode::from(2)
        }
    }
}

fn complete(shell: clap_complete::Shell) -> ExitCode {
    let mut command = Cli::command();
    clap_complete::generate(shell, &mut command, "caduceus", &mut std::io::stdout());
    ExitCode::SUCCESS
}
