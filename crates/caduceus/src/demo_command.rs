//! `caduceus demo`: an installation with samples, ready to be called.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use config::Settings;
use demo::{DemoRecord, Upstreams};
use model::Network;
use serde::Serialize;

use crate::{
    installation::{Installation, Role},
    logging,
    serve::{self, Signals},
};

/// Arguments of `caduceus demo`.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Print one JSON object on one line instead of text.
    #[arg(long)]
    json: bool,
    /// Where the demo keeps its data.
    #[arg(long, value_name = "DIR", default_value = "caduceus-demo")]
    data_dir: PathBuf,
    /// Port of the control API; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    control_port: u16,
    /// Port of the gateway; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    gateway_port: u16,
}

/// What is printed when everything answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Announcement {
    control_url: String,
    /// The address for browsers.
    portal_url: String,
    gateway_url: String,
    accounts: Vec<demo::Account>,
    applications: Vec<demo::DemoApplication>,
    samples: Vec<Sample>,
}

/// A call that works when pasted.
#[derive(Serialize)]
struct Sample {
    name: &'static str,
    curl: String,
}

const RECORD: &str = "demo.json";

/// Runs until it is told to stop.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut settings = Settings { data_dir: args.data_dir.clone(), ..Settings::default() };
    settings.control.listen = ([127, 0, 0, 1], args.control_port).into();
    settings.gateway.listen = ([127, 0, 0, 1], args.gateway_port).into();
    settings.network.allowed_ranges = vec![Network::parse("127.0.0.0/8")?];
    settings.gateway.drain_seconds = 5;
    settings.log.level = config::LogLevel::Warn;
    logging::start(&settings.log);
    serve::runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let installation = Installation::start(settings, Role::All).await?;
        let record = fill(&installation).await?;
        announce(args.json, &installation, record)?;
        signals.received().await;
        installation.shut_down().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts the sample upstreams, and seeds the installation or points it at them.
async fn fill(installation: &Installation) -> anyhow::Result<DemoRecord> {
    let (tracker, stop) = installation.tasks();
    let upstreams =
        Upstreams::start(tracker, stop).await.context("the sample upstreams could not start")?;
    let market = installation.open_control_plane().await?;
    let data = installation.data();
    let record = match data.read(RECORD)? {
        Some(text) => {
            let record: DemoRecord =
                serde_json::from_str(&text).context("demo.json in the data folder is damaged")?;
            demo::update_targets(&market, &record, &upstreams).await?;
            record
        }
        None => {
            let token = market.prepare_set_up().await?.context(
                "the data folder holds an installation that is no demo; name another with --data-dir",
            )?;
            let record = demo::seed(&market, &token, &upstreams).await?;
            data.write(RECORD, &serde_json::to_string_pretty(&record)?)?;
            record
        }
    };
    installation.wait_for_config(&market).await?;
    Ok(record)
}

fn announce(json: bool, installation: &Installation, record: DemoRecord) -> anyhow::Result<()> {
    let control_url = installation.control_url();
    let gateway_url = format!("http://{}", installation.gateway_address());
    let samples = samples(&gateway_url, &record);
    let announcement = Announcement {
        portal_url: control_url.clone(),
        control_url,
        gateway_url,
        accounts: record.accounts,
        applications: record.applications,
        samples,
    };
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &announcement)?;
        writeln!(out)?;
    } else {
        write_text(&mut out, &announcement)?;
    }
    out.flush()?;
    Ok(())
}

fn samples(gateway_url: &str, record: &DemoRecord) -> Vec<Sample> {
    let key_of = |name: &str| {
        record
            .applications
            .iter()
            .find(|application| application.name == name)
            .map(|application| application.api_key.as_str())
            .unwrap_or_default()
    };
    let (app, dashboard) = (key_of("Member app"), key_of("Ward dashboard"));
    vec![
        Sample {
            name: "Free slots at the clinic, as a member's app",
            curl: format!(
                "curl -i -H 'X-API-Key: {app}' '{gateway_url}/clinic/slots?specialty=cardiology'"
            ),
        },
        Sample {
            name: "A medicine from the directory, as the ward's dashboard",
            curl: format!(
                "curl -i -H 'X-API-Key: {dashboard}' '{gateway_url}/drugs/medicines/M-0001'"
            ),
        },
        Sample {
            name: "Free beds, from a system where every third call fails",
            curl: format!(
                "curl -i -H 'Authorization: Bearer {dashboard}' '{gateway_url}/beds/wards'"
            ),
        },
    ]
}

fn write_text(out: &mut impl Write, announcement: &Announcement) -> anyhow::Result<()> {
    writeln!(out, "Caduceus demo\n")?;
    writeln!(out, "  portal       {}", announcement.portal_url)?;
    writeln!(out, "  control API  {}/api/v1", announcement.control_url)?;
    writeln!(out, "  gateway      {}\n", announcement.gateway_url)?;
    writeln!(
        out,
        "People, who sign in to the portal (or POST /api/v1/auth/token with grant_type=password)\n"
    )?;
    for account in &announcement.accounts {
        writeln!(
            out,
            "  {:<15} {:<14} {:<40} {}",
            account.role, account.tenant, account.email, account.password
        )?;
    }
    writeln!(out, "\nApplications\n")?;
    for application in &announcement.applications {
        writeln!(
            out,
            "  {:<15} {:<14} {}",
            application.name, application.tenant, application.api_key
        )?;
    }
    writeln!(out, "\nTry\n")?;
    for sample in &announcement.samples {
        writeln!(out, "  # {}\n  {}\n", sample.name, sample.curl)?;
    }
    writeln!(out, "Ctrl-C stops; the next start continues from the same data.")?;
    Ok(())
}
