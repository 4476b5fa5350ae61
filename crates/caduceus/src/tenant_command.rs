//! `caduceus tenant`: what concerns tenants as a whole.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use config::{Secret, Settings};
use model::Network;
use prove::{Addresses, Report};
use store::{Database, Page, Viewer};

use crate::{
    installation::{Installation, Role},
    logging,
    output::{Colour, Output, Table},
    serve,
};

/// What concerns tenants as a whole.
#[derive(Subcommand)]
pub(crate) enum TenantCommand {
    /// Prove that tenants are apart: make two of them in an installation of its own, and try every operation of the API
    /// and the gateway in every role to learn something of the other.
    Prove(ProveArgs),
}

/// Arguments of `caduceus tenant prove`.
#[derive(Args)]
pub(crate) struct ProveArgs {
    /// An empty PostgreSQL database to prove it on; SQLite in a folder of its own when absent. What is made there stays.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// How results are written.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
    /// Leak in one of the known ways (1 to 5), to see that it is noticed.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, value_name = "NUMBER")]
    plant: Option<u8>,
}

/// Runs the command. The exit code is 1 when somebody learnt something.
pub(crate) fn run(command: &TenantCommand) -> anyhow::Result<ExitCode> {
    let TenantCommand::Prove(args) = command;
    #[cfg(debug_assertions)]
    if let Some(number) = args.plant {
        store::Planted::plant(number);
    }
    let folder = tempfile::Builder::new().prefix("caduceus-proof-").tempdir()?;
    let mut settings = Settings { data_dir: folder.path().join("data"), ..Settings::default() };
    settings.control.listen = ([127, 0, 0, 1], 0).into();
    settings.control.requests_per_second = 100_000;
    settings.gateway.listen = ([127, 0, 0, 1], 0).into();
    settings.network.allowed_ranges = vec![Network::parse("127.0.0.0/8")?];
    settings.gateway.drain_seconds = 1;
    settings.log.level = config::LogLevel::Error;
    settings.database.url = args.database_url.clone().map(Secret::new);
    logging::start(&settings.log);
    let report = serve::runtime()?.block_on(async {
        if let Some(url) = &args.database_url {
            require_empty(url).await?;
        }
        let installation = Installation::start(settings, Role::All).await?;
        let proven = prove_in(&installation).await;
        installation.shut_down().await?;
        proven
    })?;
    let mut out = io::stdout().lock();
    match args.output {
        Output::Table => write_table(&mut out, &report)?,
        output => output.write(&mut out, &report)?,
    }
    out.flush()?;
    Ok(if report.leaks.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn require_empty(url: &str) -> anyhow::Result<()> {
    let database = Database::open(url).await.context("the database could not be opened")?;
    let mut tx = database.read(Viewer::Installation).await?;
    let tenants = store::tenant::list(&mut tx, Viewer::Installation, Page::numbered(1, 1)).await?;
    drop(tx);
    database.close().await;
    if tenants.total > 0 {
        bail!("the database holds an installation: name an empty one with --database-url");
    }
    Ok(())
}

async fn prove_in(installation: &Installation) -> anyhow::Result<Report> {
    let market = installation.open_control_plane().await?;
    let token =
        market.prepare_set_up().await?.context("the installation was set up by somebody else")?;
    let addresses = Addresses {
        control: installation.control_url(),
        gateway: format!("http://{}", installation.gateway_address()),
    };
    prove::prove(&addresses, &token).await.context("nothing could be proven")
}

fn write_table(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut table = Table::default();
    for leak in &report.leaks {
        let words = format!("{} {}", leak.role, leak.operation);
        table.row(Colour::Red, words, format!("{}: {}", leak.asked, leak.learnt));
    }
    table.write(out)?;
    for (role, attempts) in &report.attempts {
        writeln!(out, "{role:<14} {attempts:>6} attempts")?;
    }
    let (operations, total, leaks) = (report.operations, report.total(), report.leaks.len());
    writeln!(out, "{operations} operations, {total} attempts, {leaks} leaks")
}
