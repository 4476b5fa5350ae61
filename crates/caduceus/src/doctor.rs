//! `caduceus doctor`: looks for what is wrong with an installation.

use std::{io::Write, net::TcpListener, process::ExitCode};

use clap::Args;
use config::{DataDir, DataDirError, Settings};
use gateway::Certificates;
use model::Clock;
use store::Database;

use crate::{ConfigArgs, post, serve};

/// Arguments of `caduceus doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// What a check found.
enum Finding {
    Fine(String),
    Note(String),
    Wrong(String),
}

/// Checks configuration, data folder, database and addresses; exit code 1 when something is wrong.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let mut out = std::io::stdout();
    writeln!(out, "configuration (secrets are hidden):\n{settings:#?}\n")?;
    let mut findings = vec![Finding::Fine("the configuration is well-formed".to_owned())];
    let is_running = check_data_dir(&settings, &mut findings);
    serve::runtime()?.block_on(check_database(&settings, &mut findings));
    check_certificates(&settings, &mut findings);
    serve::runtime()?.block_on(check_mail(&settings, &mut findings));
    if !is_running {
        check_addresses(&settings, &mut findings);
    }
    let mut is_fine = true;
    for finding in findings {
        match finding {
            Finding::Fine(text) => writeln!(out, "ok    {text}")?,
            Finding::Note(text) => writeln!(out, "note  {text}")?,
            Finding::Wrong(text) => {
                is_fine = false;
                writeln!(out, "WRONG {text}")?;
            }
        }
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Looks at the data folder; says whether an installation is running on it.
fn check_data_dir(settings: &Settings, findings: &mut Vec<Finding>) -> bool {
    let path = settings.data_dir.display();
    if !settings.data_dir.exists() {
        findings.push(Finding::Note(format!(
            "the data folder {path} is not there yet; serve makes it"
        )));
        return false;
    }
    match DataDir::open(&settings.data_dir) {
        Ok(data) => {
            findings.push(Finding::Fine(format!("the data folder {path} can be used")));
            match data.master_key(settings.master_key_file.as_deref()) {
                Ok(_) => findings.push(Finding::Fine("the master key can be read".to_owned())),
                Err(error) => findings.push(Finding::Wrong(error.to_string())),
            }
            false
        }
        Err(DataDirError::InUse(_)) => {
            findings.push(Finding::Note(format!("an installation is running on {path}")));
            true
        }
        Err(error) => {
            findings.push(Finding::Wrong(format!("{:#}", anyhow::Error::from(error))));
            false
        }
    }
}

async fn check_database(settings: &Settings, findings: &mut Vec<Finding>) {
    let Some(url) = &settings.database.url else {
        findings.push(Finding::Fine("the database is SQLite in the data folder".to_owned()));
        return;
    };
    match Database::open(url.expose()).await {
        Ok(database) => {
            let engine = database.engine();
            findings.push(Finding::Fine(format!("the database answers ({engine:?})")));
            database.close().await;
        }
        Err(error) => findings.push(Finding::Wrong(format!("{:#}", anyhow::Error::from(error)))),
    }
}

/// Connects to the mail server and signs in, without sending anything.
async fn check_mail(settings: &Settings, findings: &mut Vec<Finding>) {
    let name = match &settings.notices.smtp {
        None => {
            let text = "notices.smtp is not set: people have their inbox, and no e-mail is sent";
            return findings.push(Finding::Note(text.to_owned()));
        }
        Some(smtp) => format!("the mail server {}:{}", smtp.host, smtp.port()),
    };
    if settings.portal.public_url.is_none() {
        let text = "portal.publicUrl is not set: e-mails have no links";
        findings.push(Finding::Note(text.to_owned()));
    }
    findings.push(match post::courier(settings, "doctor".to_owned(), Clock::system()) {
        Ok(Some(courier)) => match courier.probe().await {
            Ok(()) => Finding::Fine(format!("{name} is ready to take e-mails")),
            Err(reason) => Finding::Wrong(format!("{name}: {reason}")),
        },
        Ok(None) => return,
        Err(error) => Finding::Wrong(format!("{error:#}")),
    });
}

fn check_certificates(settings: &Settings, findings: &mut Vec<Finding>) {
    let control = settings.control.tls.as_ref().map(|tls| &tls.certificates);
    let gateway = settings.gateway.tls.as_ref().map(|tls| &tls.certificates);
    for (name, folder) in [("control.tls", control), ("gateway.tls", gateway)] {
        let Some(folder) = folder else { continue };
        findings.push(match Certificates::load(folder) {
            Ok(_) => Finding::Fine(format!("the certificates of {name} can be used")),
            Err(error) => Finding::Wrong(format!("{name}: {:#}", anyhow::Error::from(error))),
        });
    }
}

fn check_addresses(settings: &Settings, findings: &mut Vec<Finding>) {
    let listeners = [
        ("control.listen", Some(settings.control.listen)),
        ("gateway.listen", Some(settings.gateway.listen)),
        ("feed.listen", settings.feed.listen),
    ];
    for (name, address) in
        listeners.into_iter().filter_map(|(name, address)| address.map(|address| (name, address)))
    {
        match TcpListener::bind(address) {
            Ok(_) => findings.push(Finding::Fine(format!("{name} {address} is free"))),
            Err(error) => findings.push(Finding::Wrong(format!("{name} {address}: {error}"))),
        }
    }
    if !settings.control.listen.ip().is_loopback() && settings.control.tls.is_none() {
        findings.push(Finding::Note(
            "control.listen is reachable from other machines and speaks plain HTTP: set control.tls, or put TLS in front of it"
                .to_owned(),
        ));
    }
}
