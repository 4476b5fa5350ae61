//! `caduceus keys`: API keys and signing keys.

use std::{
    io::{BufRead, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use model::ApiKey;
use serde::Serialize;

use crate::{
    ConfigArgs,
    installation::{Installation, Role},
    output::{Colour, Output, Table},
    serve,
};

/// Arguments of `caduceus keys`.
#[derive(Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Check form and checksum of an API key, read from standard input, without asking any server.
    Check,
    /// Make a new key that tokens are signed with, while the server is stopped; those signed before stay good.
    Rotate {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List the public keys that tokens are signed with, while the server is stopped.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// How results are written.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// A public key that tokens are signed with.
#[derive(Serialize)]
struct KeyRow {
    kid: String,
    alg: &'static str,
    x: String,
}

/// Runs the command.
pub(crate) fn run(args: &KeysArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        KeysCommand::Check => check(),
        KeysCommand::Rotate { config } => {
            let kid = with_market(config, async |market| Ok(market.replace_signing_key().await?))?;
            writeln!(std::io::stdout(), "tokens are signed with {kid} from now on")?;
            Ok(ExitCode::SUCCESS)
        }
        KeysCommand::List { config, output } => {
            let keys = with_market(config, async |market| Ok(market.jwks().await?))?;
            let keys = keys.into_iter().map(|key| KeyRow { kid: key.kid, alg: "ES256", x: key.x });
            let mut out = std::io::stdout();
            if *output == Output::Table {
                let mut table = Table::default();
                keys.for_each(|key| {
                    table.row(Colour::Plain, key.kid, format!("{}  {}", key.alg, key.x))
                });
                table.write(&mut out)?;
            } else {
                output.write(&mut out, &keys.collect::<Vec<_>>())?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Keys come by standard input, so that they stand in no process list and no history.
fn check() -> anyhow::Result<ExitCode> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the key could not be read")?;
    match ApiKey::parse(line.trim()) {
        Ok(key) => {
            writeln!(std::io::stdout(), "well-formed: {}…{}", key.prefix(), key.last_four())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(std::io::stderr(), "{error}")?;
            Ok(ExitCode::from(1))
        }
    }
}

fn with_market<T>(
    config: &ConfigArgs,
    work: impl AsyncFnOnce(&market::Market) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut settings = config.load()?;
    settings.control.listen = ([127, 0, 0, 1], 0).into();
    settings.gateway.listen = ([127, 0, 0, 1], 0).into();
    settings.feed.listen = None;
    settings.gateway.drain_seconds = 1;
    serve::runtime()?.block_on(async {
        let installation = Installation::start(settings, Role::All).await?;
        let market = installation.open_control_plane().await?;
        let result = work(&market).await;
        installation.shut_down().await?;
        result
    })
}
