//! `caduceus ready`: asks the installation on this machine whether it is ready, for health checks of containers that
//! have no other program.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use config::Settings;
use serde_json::Value;

use crate::{ConfigArgs, serve};

/// Arguments of `caduceus ready`.
#[derive(Args)]
pub(crate) struct ReadyArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Exits 0 when it is ready, 1 when it is not, 2 when that could not be found out.
pub(crate) fn run(args: &ReadyArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let state = serve::runtime()?.block_on(ask(&settings))?;
    let is_ready = is_ready(&state);
    writeln!(std::io::stdout(), "{}", if is_ready { "ready" } else { "not ready" })?;
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Whether an installation says that it is ready.
pub(crate) fn is_ready(state: &Value) -> bool {
    state.get("ready") == Some(&Value::Bool(true))
}

/// What the installation that runs with these settings says at `/readyz?verbose`.
pub(crate) async fn ask(settings: &Settings) -> anyhow::Result<Value> {
    let address = reachable(settings.control.listen);
    if settings.control.tls.is_some() {
        bail!(
            "control.tls is set: ask /readyz at {address} with a client that trusts its certificate"
        );
    }
    let asked = reqwest::Client::new()
        .get(format!("http://{address}/readyz?verbose"))
        .timeout(PATIENCE)
        .send()
        .await
        .map_err(reqwest::Error::without_url);
    let answer = asked.with_context(|| format!("nothing answers at {address}"))?;
    answer.json().await.with_context(|| format!("what answers at {address} is no installation"))
}

/// An address that reaches what listens on all of them.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
