//! `caduceus serve`: the control plane, the gateway, or both.

use std::{io::Write, net::SocketAddr, process::ExitCode};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::{
    ConfigArgs,
    installation::{Installation, Role},
    logging,
    remote::RemoteGateway,
};

/// Arguments of `caduceus serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What this process does.
    #[arg(long, value_enum, default_value = "all")]
    role: ServeRole,
    /// Address of the control API, over the one in the configuration.
    #[arg(long, value_name = "IP:PORT")]
    control_listen: Option<SocketAddr>,
    /// Address of the gateway, over the one in the configuration.
    #[arg(long, value_name = "IP:PORT")]
    gateway_listen: Option<SocketAddr>,
}

/// What a process does.
#[derive(Clone, Copy, ValueEnum)]
enum ServeRole {
    /// Control plane and gateway.
    All,
    /// The control plane alone.
    Control,
    /// A gateway alone, which follows a control plane on another machine and needs no database.
    Gateway,
}

/// Runs until it is told to stop.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let mut settings = args.config.load()?;
    settings.control.listen = args.control_listen.unwrap_or(settings.control.listen);
    settings.gateway.listen = args.gateway_listen.unwrap_or(settings.gateway.listen);
    settings.check()?;
    logging::start(&settings.log);
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let role = match args.role {
            ServeRole::All => Role::All,
            ServeRole::Control => Role::Control,
            ServeRole::Gateway => return serve_gateway(settings, signals).await,
        };
        let installation = Installation::start(settings, role).await?;
        let opened = tokio::select! {
            market = installation.wait_for_control_plane() => market,
            () = signals.received() => None,
        };
        if let Some(market) = opened {
            if let Some(token) = market.prepare_set_up().await? {
                announce_set_up(&installation, &token)?;
            }
            signals.received().await;
        }
        installation.shut_down().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A gateway alone.
async fn serve_gateway(
    settings: config::Settings,
    mut signals: Signals,
) -> anyhow::Result<ExitCode> {
    let started = tokio::select! {
        started = RemoteGateway::start(settings) => started?,
        () = signals.received() => return Ok(ExitCode::SUCCESS),
    };
    signals.received().await;
    started.shut_down().await?;
    Ok(ExitCode::SUCCESS)
}

/// The runtime of the control plane; the gateway has threads of its own.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the runtime could not be started")
}

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The token goes to standard output alone, never to the log.
fn announce_set_up(installation: &Installation, token: &str) -> anyhow::Result<()> {
    let url = installation.control_url();
    writeln!(
        std::io::stdout(),
        "This installation is empty. Set it up once with the one-time token {token}\n\
         in a browser at {url}/set-up, or by\n\n\
         curl -X POST {url}/api/v1/auth/setup -H 'Content-Type: application/json' -d '{{\
         \"token\":\"{token}\",\"tenant\":{{\"slug\":\"my-hospital\",\"name\":\"My Hospital\"}},\
         \"admin\":{{\"email\":\"you@example.org\",\"name\":\"Your Name\",\"password\":\"at least 12 characters\"}}}}'\n"
    )?;
    std::io::stdout().flush()?;
    Ok(())
}
