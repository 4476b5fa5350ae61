//! The access log: a line of JSON for each call, of fields that cannot hold health data or credentials.
//!
//! Workers write into buffers of their own and hand them to one thread over a bounded channel. Whatever the disk does,
//! no call waits for it: when there is no more room, lines are dropped and counted.

use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use model::{AccessField, ApplicationId, CredentialId, DeploymentId, Fault};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::{
    random::hex,
    settings::{AccessLogDestination, AccessLogSettings},
};

/// How much a worker gathers before it hands it over, and how much it keeps when nobody takes it.
const BATCH: usize = 64 << 10;
const BUFFER: usize = 256 << 10;
/// How many batches may wait for the disk.
const BATCHES: usize = 32;
/// How often it is looked whether the file was renamed or removed.
const ROTATION: Duration = Duration::from_secs(1);
/// How long an ending worker waits for room.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Where one worker writes lines.
pub(crate) struct AccessLog {
    fields: Vec<AccessField>,
    batches: SyncSender<Vec<u8>>,
    buffer: RefCell<Vec<u8>>,
    lost: Counter,
}

/// What is known of a call at its end.
pub(crate) struct Line<'call> {
    pub(crate) time: Timestamp,
    pub(crate) request_id: &'call str,
    pub(crate) trace: [u8; 16],
    pub(crate) client: IpAddr,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'static str,
    pub(crate) route: Option<&'call str>,
    pub(crate) tenant: Option<&'call str>,
    pub(crate) api: Option<&'call str>,
    pub(crate) version: Option<&'call str>,
    pub(crate) deployment: Option<DeploymentId>,
    pub(crate) application: Option<ApplicationId>,
    pub(crate) credential: Option<CredentialId>,
    pub(crate) status: u16,
    pub(crate) fault: Fault,
    pub(crate) duration_nanos: u64,
    pub(crate) upstream_nanos: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

/// What the thread that writes needs.
pub(crate) struct Writer {
    batches: Receiver<Vec<u8>>,
    out: Output,
    lost: Counter,
    is_failing: bool,
}

enum Output {
    Stdout,
    File {
        path: PathBuf,
        file: File,
        looked_at: Instant,
        /// Whether the last line was written in part.
        is_torn: bool,
    },
}

/// Opens the log; the first is for workers to [`AccessLog::share`], the second for [`Writer::run`].
pub(crate) fn open(settings: &AccessLogSettings, lost: Counter) -> io::Result<(AccessLog, Writer)> {
    let out = match &settings.destination {
        AccessLogDestination::Stdout => Output::Stdout,
        AccessLogDestination::File(path) => Output::File {
            file: append(path)?,
            path: path.clone(),
            looked_at: Instant::now(),
            is_torn: false,
        },
    };
    let (sender, batches) = std::sync::mpsc::sync_channel(BATCHES);
    let fields = settings.fields.clone();
    let fields = AccessField::ALL.into_iter().filter(|field| fields.contains(field)).collect();
    let log = AccessLog { fields, batches: sender, buffer: RefCell::default(), lost: lost.clone() };
    Ok((log, Writer { batches, out, lost, is_failing: false }))
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

impl AccessLog {
    /// The same log for another worker.
    pub(crate) fn share(&self) -> Self {
        Self {
            fields: self.fields.clone(),
            batches: self.batches.clone(),
            buffer: RefCell::default(),
            lost: self.lost.clone(),
        }
    }

    /// Takes a line, or drops it when there is no room.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() >= BATCH {
            self.hand_over(&mut buffer);
        }
        if buffer.len() >= BUFFER {
            self.lost.inc();
            return;
        }
        let start = buffer.len();
        if line.write(&self.fields, &mut buffer).is_err() {
            buffer.truncate(start);
            self.lost.inc();
        }
    }

    /// Hands over what there is, if the thread has room for it.
    pub(crate) fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.hand_over(&mut buffer);
        }
    }

    /// Hands over the last lines. Waits a moment for room, not for the disk.
    pub(crate) fn finish(&self) {
        let end = Instant::now() + LAST_WAIT;
        loop {
            self.flush();
            if self.buffer.borrow().is_empty() || Instant::now() >= end {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.lost.inc_by(lines(&self.buffer.take()));
    }

    fn hand_over(&self, buffer: &mut Vec<u8>) {
        match self.batches.try_send(std::mem::take(buffer)) {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => *buffer = batch,
            Err(TrySendError::Disconnected(batch)) => {
                self.lost.inc_by(lines(&batch));
            }
        }
    }
}

fn lines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).map(|_| 1).sum()
}

impl Line<'_> {
    fn write(&self, fields: &[AccessField], out: &mut Vec<u8>) -> serde_json::Result<()> {
        let mut before = b'{';
        for field in fields {
            out.push(before);
            before = b',';
            serde_json::to_writer(&mut *out, field)?;
            out.push(b':');
            self.write_field(*field, out)?;
        }
        out.extend_from_slice(if fields.is_empty() { b"{}\n" } else { b"}\n" });
        Ok(())
    }

    fn write_field(&self, field: AccessField, out: &mut Vec<u8>) -> serde_json::Result<()> {
        fn put(out: &mut Vec<u8>, value: impl Serialize) -> serde_json::Result<()> {
            serde_json::to_writer(out, &value)
        }
        match field {
            AccessField::Time => put(out, format_args!("{:.6}", self.time)),
            AccessField::RequestId => put(out, self.request_id),
            AccessField::TraceId => {
                let digits: [u8; 32] = hex(&self.trace);
                put(out, std::str::from_utf8(&digits).unwrap_or_default())
            }
            AccessField::Client => put(out, self.client),
            AccessField::Protocol => put(out, self.protocol),
            AccessField::Method => put(out, self.method),
            AccessField::Route => put(out, self.route),
            AccessField::Tenant => put(out, self.tenant),
            AccessField::Api => put(out, self.api),
            AccessField::Version => put(out, self.version),
            AccessField::Deployment => put(out, self.deployment),
            AccessField::Application => put(out, self.application),
            AccessField::Credential => put(out, self.credential),
            AccessField::Status => put(out, self.status),
            AccessField::Fault => put(out, fault_name(self.fault)),
            AccessField::DurationMs => put(out, millis(self.duration_nanos)),
            AccessField::UpstreamMs => put(out, millis(self.upstream_nanos)),
            AccessField::RequestBytes => put(out, self.request_bytes),
            AccessField::ResponseBytes => put(out, self.response_bytes),
        }
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(nanos: u64) -> f64 {
    (Duration::from_micros(nanos / 1_000).as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

const fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::None => "none",
        Fault::Client => "client",
        Fault::Gateway => "gateway",
        Fault::Upstream => "upstream",
    }
}

impl Writer {
    /// Writes what comes until all workers have ended.
    pub(crate) fn run(mut self) {
        loop {
            let batch = self.batches.recv_timeout(ROTATION);
            self.out.follow_rotation();
            match batch {
                Ok(batch) => {
                    let (written, outcome) = self.out.write(&batch);
                    self.lost.inc_by(lines(batch.get(written..).unwrap_or_default()));
                    self.note(outcome);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Logs the beginning and the end of each episode in which nothing can be written.
    fn note(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the access log is written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the access log cannot be written; its lines are dropped"
                    );
                }
            }
        }
    }
}

impl Output {
    /// Writes a batch; says how much of it.
    fn write(&mut self, batch: &[u8]) -> (usize, io::Result<()>) {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                match out.write_all(batch).and_then(|()| out.flush()) {
                    Ok(()) => (batch.len(), Ok(())),
                    Err(error) => (0, Err(error)),
                }
            }
            Self::File { file, is_torn, .. } => {
                if *is_torn {
                    // So that the next line is not taken for the rest of the last one.
                    if let Err(error) = file.write_all(b"\n") {
                        return (0, Err(error));
                    }
                    *is_torn = false;
                }
                let mut written = 0;
                while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
                    let outcome = match file.write(rest) {
                        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                        other => other,
                    };
                    match outcome {
                        Ok(more) => written += more,
                        Err(error) => {
                            let last = written.checked_sub(1).and_then(|at| batch.get(at));
                            *is_torn = last.is_some_and(|byte| *byte != b'\n');
                            return (written, Err(error));
                        }
                    }
                }
                (written, Ok(()))
            }
        }
    }

    /// Opens the file anew when it was renamed or removed.
    fn follow_rotation(&mut self) {
        let Self::File { path, file, looked_at, is_torn } = self else { return };
        if looked_at.elapsed() < ROTATION {
            return;
        }
        *looked_at = Instant::now();
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let present = fs::metadata(&*path).ok().map(|found| identity(&found));
        if present.is_some() && present == file.metadata().ok().map(|open| identity(&open)) {
            return;
        }
        match append(path) {
            Ok(new) => (*file, *is_torn) = (new, false),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                path = %path.display(),
                "the access log cannot be opened anew; the file before is written on"
            ),
        }
    }
}
