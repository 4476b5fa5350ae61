//! `caduceus doctor`: looks for what is wrong with an installation.

use std::{
    fs, io::Write, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path,
    process::ExitCode,
};

use clap::Args;
use config::{DataDir, DataDirError, Settings};
use gateway::Certificates;
use jiff::SignedDuration;
use market::{MasterKeyCheck, Secrets};
use model::Clock;
use serde::Serialize;
use serde_json::Value;
use store::Database;

use crate::{
    ConfigArgs,
    output::{Colour, Output, Table},
    post, ready, serve,
};

/// Arguments of `caduceus doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How results are written.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What a check found.
#[derive(Serialize)]
#[serde(tag = "verdict", content = "text", rename_all = "lowercase")]
enum Finding {
    #[serde(rename = "ok")]
    Fine(String),
    Note(String),
    Wrong(String),
}

/// What all checks found, for programs.
#[derive(Serialize)]
struct Report {
    fine: bool,
    findings: Vec<Finding>,
}

/// Less free space than this is wrong: journals and the database stop when it is gone.
const SPACE_MIN: u64 = 256 * 1024 * 1024;
/// Less than this is worth a note.
const SPACE_NOTE: u64 = 2 * 1024 * 1024 * 1024;
/// Certificates are renewed earlier than this.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(21 * 24);

/// Checks configuration, data folder, database and addresses; exit code 1 when something is wrong.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let mut out = std::io::stdout();
    if args.output == Output::Table {
        writeln!(out, "configuration (secrets are hidden):\n{settings:#?}\n")?;
    }
    let mut findings = vec![Finding::Fine("the configuration is well-formed".to_owned())];
    let is_running = check_data_dir(&settings, &mut findings);
    check_space(&settings.data_dir, &mut findings);
    serve::runtime()?.block_on(check_database(&settings, &mut findings));
    check_certificates(&settings, &mut findings);
    serve::runtime()?.block_on(check_mail(&settings, &mut findings));
    if is_running {
        serve::runtime()?.block_on(check_answer(&settings, &mut findings));
    } else {
        check_addresses(&settings, &mut findings);
    }
    let fine = !findings.iter().any(|finding| matches!(finding, Finding::Wrong(_)));
    if args.output == Output::Table {
        let mut table = Table::default();
        for finding in findings {
            match finding {
                Finding::Fine(text) => table.row(Colour::Green, "ok", text),
                Finding::Note(text) => table.row(Colour::Yellow, "note", text),
                Finding::Wrong(text) => table.row(Colour::Red, "WRONG", text),
            }
        }
        table.write(&mut out)?;
    } else {
        args.output.write(&mut out, &Report { fine, findings })?;
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
            check_key_file(settings, findings);
            match data.master_key(settings.master_key_file.as_deref()) {
                Ok(_) => findings.push(Finding::Fine("the master key can be read".to_owned())),
                Err(error) => findings.push(Finding::Wrong(error.to_string())),
            }
            false
        }
        Err(DataDirError::InUse(_)) => {
            check_key_file(settings, findings);
            findings.push(Finding::Note(format!("an installation is running on {path}")));
            true
        }
        Err(error) => {
            findings.push(Finding::Wrong(format!("{:#}", anyhow::Error::from(error))));
            false
        }
    }
}

/// Whoever reads the master key can read everything that is sealed.
fn check_key_file(settings: &Settings, findings: &mut Vec<Finding>) {
    let path = match &settings.master_key_file {
        Some(path) => path.clone(),
        None => settings.data_dir.join("master.key"),
    };
    let Ok(metadata) = fs::metadata(&path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let path = path.display();
        findings.push(Finding::Wrong(format!(
            "the master key {path} can be read by others (mode {mode:o}): chmod 600 {path}"
        )));
    }
}

/// How much room there is for the database, journals and indexes.
fn check_space(folder: &Path, findings: &mut Vec<Finding>) {
    let exists = folder.ancestors().find(|folder| folder.exists());
    let Some(Ok(space)) = exists.map(rustix::fs::statvfs) else { return };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let text = format!("the disk of {} has {} MiB left", folder.display(), free / (1024 * 1024));
    findings.push(match free {
        0..SPACE_MIN => Finding::Wrong(text),
        SPACE_MIN..SPACE_NOTE => Finding::Note(text),
        _ => Finding::Fine(text),
    });
}

/// Asks the installation that is running how it does.
async fn check_answer(settings: &Settings, findings: &mut Vec<Finding>) {
    if settings.control.tls.is_some() {
        let address = settings.control.listen;
        let text = format!("/readyz?verbose at {address} says how the running installation does");
        return findings.push(Finding::Note(text));
    }
    let state = match ready::ask(settings).await {
        Ok(state) => state,
        Err(error) => return findings.push(Finding::Wrong(format!("{error:#}"))),
    };
    findings.push(if ready::is_ready(&state) {
        Finding::Fine("the running installation is ready".to_owned())
    } else {
        Finding::Wrong("the running installation is not ready".to_owned())
    });
    if state.get("database") == Some(&Value::from("away")) {
        let text = "the running installation cannot reach its database; calls go on without it";
        findings.push(Finding::Wrong(text.to_owned()));
    }
    if state.pointer("/gateway/tooOld") == Some(&Value::Bool(true)) {
        let text = "the gateway's configuration is older than feed.maxAgeSeconds";
        findings.push(Finding::Wrong(text.to_owned()));
    }
}

async fn check_database(settings: &Settings, findings: &mut Vec<Finding>) {
    let sqlite = settings.data_dir.join("caduceus.db");
    let url = match &settings.database.url {
        Some(url) => url.expose().to_owned(),
        None if sqlite.exists() => format!("sqlite://{}", sqlite.display()),
        None => {
            let text = "the database is SQLite in the data folder; serve makes it";
            return findings.push(Finding::Fine(text.to_owned()));
        }
    };
    let database = match Database::open(&url).await {
        Ok(database) => database,
        Err(error) => {
            return findings.push(Finding::Wrong(format!("{:#}", anyhow::Error::from(error))));
        }
    };
    let engine = database.engine();
    findings.push(Finding::Fine(format!("the database answers ({engine:?})")));
    if let Some(secrets) = secrets(settings) {
        findings.push(match market::check_master_key(&database, &secrets).await {
            Ok(MasterKeyCheck::Right) => {
                Finding::Fine("the database was made under this master key".to_owned())
            }
            Ok(MasterKeyCheck::Unknown) => Finding::Note("the database is new".to_owned()),
            Ok(MasterKeyCheck::Wrong) => Finding::Wrong(
                "the database was made under another master key: put that one back".to_owned(),
            ),
            Err(error) => Finding::Wrong(format!("{:#}", anyhow::Error::from(error))),
        });
    }
    database.close().await;
}

/// What is derived from the master key, when there is one that can be read. None is made.
fn secrets(settings: &Settings) -> Option<Secrets> {
    let named = settings.master_key_file.clone();
    let path = named.unwrap_or_else(|| settings.data_dir.join("master.key"));
    DataDir::read_key(&path).ok().map(|key| Secrets::derive(&key))
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
            Ok(certificates) => expiry(name, &certificates),
            Err(error) => Finding::Wrong(format!("{name}: {:#}", anyhow::Error::from(error))),
        });
    }
}

/// Says which certificate expires first, when that is soon or past.
fn expiry(name: &str, certificates: &Certificates) -> Finding {
    let now = Clock::system().now();
    let first = certificates.status().into_iter().min_by_key(|status| status.not_after);
    match first {
        Some(first) if first.not_after <= now => Finding::Wrong(format!(
            "{name}: the certificate {} expired at {}",
            first.name, first.not_after
        )),
        Some(first) if first.not_after.duration_since(now) < EXPIRES_SOON => Finding::Note(
            format!("{name}: the certificate {} expires at {}", first.name, first.not_after),
        ),
        _ => Finding::Fine(format!("the certificates of {name} can be used")),
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
