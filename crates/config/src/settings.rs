//! The settings, as one typed tree.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use model::{AccessField, Email, Network};
use serde::{Deserialize, Deserializer};

/// All settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Where everything that is kept on this machine lives.
    pub data_dir: PathBuf,
    /// File with the master key.
    pub master_key_file: Option<PathBuf>,
    /// The database.
    pub database: DatabaseSettings,
    /// The control API.
    pub control: Control,
    /// The web pages.
    pub portal: Portal,
    /// The gateway.
    pub gateway: Gateway,
    /// The link between the control plane and gateways on other machines.
    pub feed: Feed,
    /// What may be connected to.
    pub network: NetworkSettings,
    /// Specifications.
    pub specifications: Specifications,
    /// The log.
    pub log: Log,
    /// Traces of calls.
    pub tracing: Option<Tracing>,
    /// What people are told.
    pub notices: Notices,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DatabaseSettings {
    /// Where it is; SQLite in the data folder when absent.
    pub url: Option<Secret>,
}

/// The control API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Control {
    /// Where it is served.
    pub listen: SocketAddr,
    /// TLS on that listener; plain HTTP when absent.
    pub tls: Option<ControlTls>,
    /// Proxies in front of it whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Requests per second of one caller.
    pub requests_per_second: u32,
    /// How long an access token is good, in seconds.
    pub token_seconds: u32,
    /// The feed of the control plane, for a gateway on another machine.
    pub url: Option<String>,
}

/// TLS towards the clients of the control API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlTls {
    /// The folder of certificates.
    pub certificates: PathBuf,
    /// For how long browsers are to insist on TLS, in seconds; 0 says nothing about it.
    #[serde(default)]
    pub hsts_seconds: u64,
}

/// The web pages, which the listener of the control API serves as well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Portal {
    /// Where browsers reach them, when that is not the control listener itself: behind a proxy, say.
    pub public_url: Option<String>,
    /// How many sessions a person may have in browsers at once; of more, the oldest end.
    pub sessions_per_person: u16,
}

impl Default for Portal {
    fn default() -> Self {
        Self { public_url: None, sessions_per_person: 10 }
    }
}

impl Portal {
    /// Whether browsers reach them over TLS by way of a proxy.
    pub fn is_public_over_tls(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }
}

/// The gateway.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateway {
    /// Where APIs are called.
    pub listen: SocketAddr,
    /// Where it is reached from outside.
    pub public_url: Option<String>,
    /// Threads that carry calls.
    pub workers: Option<usize>,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// The most client connections at once.
    pub max_connections: usize,
    /// The largest request body that is compared with the specification, in bytes.
    pub max_validated_bytes: u64,
    /// How long new calls are still taken after readiness went off, in seconds: until balancers have noticed.
    pub drain_delay_seconds: u64,
    /// How long calls in flight may take to end, in seconds.
    pub drain_seconds: u64,
    /// TLS towards clients.
    pub tls: Option<GatewayTls>,
    /// Whether clients may speak HTTP/2 without TLS.
    pub h2c: bool,
    /// The most routes with metrics of their own.
    pub max_route_series: usize,
}

/// TLS towards the clients of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayTls {
    /// Where APIs are called over TLS.
    pub listen: SocketAddr,
    /// The folder of certificates.
    pub certificates: PathBuf,
    /// Whether clients without TLS are sent here.
    #[serde(default)]
    pub redirect: bool,
    /// The port that clients see, when it is another one than that of `listen`.
    #[serde(default)]
    pub public_port: Option<u16>,
    /// For how long browsers are to insist on TLS, in seconds; 0 says nothing about it.
    #[serde(default)]
    pub hsts_seconds: u64,
}

/// The link between the control plane and gateways on other machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Feed {
    /// Where a control plane serves it; not at all, when absent.
    pub listen: Option<SocketAddr>,
    /// The one-time token with which a gateway is enrolled.
    pub token: Option<Secret>,
    /// After how many seconds without news a gateway's state is too old; never, when absent.
    pub max_age_seconds: Option<u64>,
    /// What it does then.
    pub when_too_old: WhenTooOld,
}

/// What a gateway does whose state is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenTooOld {
    /// It serves on, and says so.
    #[default]
    Serve,
    /// It answers no call until news comes.
    Refuse,
}

/// What may be connected to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// Special ranges that are allowed.
    pub allowed_ranges: Vec<Network>,
}

/// Specifications.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Specifications {
    /// Hosts that they may be fetched from.
    pub allowed_hosts: Vec<String>,
    /// The largest one, in bytes.
    pub max_bytes: usize,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged.
    pub level: LogLevel,
    /// Where calls are written down: `stdout`, or a file.
    pub access: Option<PathBuf>,
    /// What of calls is written down; everything there is when absent.
    pub access_fields: Option<Vec<AccessField>>,
}

/// Traces of calls.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// Where a collector takes OTLP over HTTP.
    pub endpoint: String,
    /// Which part of all traces is sampled, 0 to 1.
    #[serde(default = "Tracing::sample_ratio")]
    pub sample_ratio: f64,
    /// Headers that the collector wants to see.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Whether calls whose clients ask for it are sampled too.
    #[serde(default = "Tracing::parent_based")]
    pub parent_based: bool,
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Notices {
    /// The hour of the day, in UTC, at which daily e-mails are sent.
    pub digest_hour: u8,
    /// The server that takes e-mails; none are sent when absent.
    pub smtp: Option<Smtp>,
}

/// A server that takes e-mails.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Smtp {
    /// Its name, which its certificate has to have.
    pub host: String,
    /// Its port; 587 for STARTTLS, 465 for implicit TLS and 25 without, when absent.
    #[serde(default)]
    port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: SmtpTls,
    /// File with the authorities that are trusted instead of the public ones, in PEM.
    #[serde(default)]
    pub ca_certificates: Option<PathBuf>,
    /// Who signs in; nobody when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// File with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The address that e-mails come from.
    pub from: Email,
}

/// How the connection to the server for e-mails is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// It begins in the open and has to go over to TLS before anything is said.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Not at all; on this machine only.
    None,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual names")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// A text that is not shown. `${env:NAME}` and `${file:PATH}` stand for other texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that the configuration names cannot be read.
    #[error("cannot read {path}, which the configuration names")]
    Named {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not well-formed or has an unknown setting.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        message: String,
    },
    /// Values that do not go together or are out of range, all of them.
    #[error("the configuration has mistakes:\n{}", .0.join("\n"))]
    Values(Vec<String>),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("caduceus-data"),
            master_key_file: None,
            database: DatabaseSettings::default(),
            control: Control::default(),
            portal: Portal::default(),
            gateway: Gateway::default(),
            feed: Feed::default(),
            network: NetworkSettings::default(),
            specifications: Specifications::default(),
            log: Log::default(),
            tracing: None,
            notices: Notices::default(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            tls: None,
            trusted_proxies: Vec::new(),
            requests_per_second: 200,
            token_seconds: 3_600,
            url: None,
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            public_url: None,
            workers: None,
            trusted_proxies: Vec::new(),
            max_connections: 20_000,
            max_validated_bytes: 1024 * 1024,
            drain_delay_seconds: 0,
            drain_seconds: 20,
            tls: None,
            h2c: false,
            max_route_series: 5_000,
        }
    }
}

impl Default for Notices {
    fn default() -> Self {
        Self { digest_hour: 6, smtp: None }
    }
}

impl Smtp {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            SmtpTls::Starttls => 587,
            SmtpTls::Implicit => 465,
            SmtpTls::None => 25,
        })
    }

    /// Who signs in, and the password out of its file.
    pub fn credentials(&self) -> Result<Option<(String, Secret)>, ConfigError> {
        let (Some(user), Some(path)) = (&self.user, &self.password_file) else { return Ok(None) };
        let text = read(path)?;
        Ok(Some((user.clone(), Secret(text.trim_end_matches(['\r', '\n']).to_owned()))))
    }

    /// The authorities that are trusted instead of the public ones, in PEM.
    pub fn authorities(&self) -> Result<Option<String>, ConfigError> {
        self.ca_certificates.as_deref().map(read).transpose()
    }

    fn mistake(&self) -> Option<&'static str> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        if self.host.is_empty() || !self.host.chars().all(is_plain) {
            return Some("notices.smtp.host must be the name or address of a server");
        }
        let is_loopback = self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if self.tls == SmtpTls::None && !is_loopback {
            return Some(
                "notices.smtp.tls may be none on this machine only: 127.0.0.1, ::1 or localhost",
            );
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Some("notices.smtp.user and notices.smtp.passwordFile go together");
        }
        if self.tls == SmtpTls::None && self.ca_certificates.is_some() {
            return Some("notices.smtp.caCertificates has no use where notices.smtp.tls is none");
        }
        None
    }
}

/// The content of a file that the configuration names.
fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Named { path: path.to_owned(), source })
}

impl Tracing {
    const fn sample_ratio() -> f64 {
        0.01
    }

    const fn parent_based() -> bool {
        true
    }

    fn mistake(&self) -> Option<&'static str> {
        let rest =
            ["http://", "https://"].iter().find_map(|start| self.endpoint.strip_prefix(start));
        match rest {
            None => Some("tracing.endpoint must begin with http:// or https://"),
            Some(rest) if rest.is_empty() || rest.contains('@') => Some(
                "tracing.endpoint must name a host, and no credentials: those belong in tracing.headers",
            ),
            Some(_) if !(0.0..=1.0).contains(&self.sample_ratio) => {
                Some("tracing.sampleRatio must be 0 to 1")
            }
            Some(_) => None,
        }
    }
}

impl Default for Specifications {
    fn default() -> Self {
        Self { allowed_hosts: Vec::new(), max_bytes: 10 * 1024 * 1024 }
    }
}

impl Settings {
    /// Reads a file, and then the variables `CADUCEUS_DATABASE_URL` and `CADUCEUS_DATA_DIR` over it.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let mut settings = match path {
            None => Self::default(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
                Self::parse(&text)
                    .map_err(|message| ConfigError::Parse { path: path.to_owned(), message })?
            }
        };
        if let Ok(url) = std::env::var("CADUCEUS_DATABASE_URL") {
            settings.database.url = Some(Secret(url));
        }
        if let Ok(dir) = std::env::var("CADUCEUS_DATA_DIR") {
            settings.data_dir = PathBuf::from(dir);
        }
        settings.check()?;
        Ok(settings)
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Refuses values that are out of range or do not go together; all mistakes are reported together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut mistakes = Vec::new();
        let mut require = |holds: bool, mistake: &str| {
            if !holds {
                mistakes.push(mistake.to_owned());
            }
        };
        require(
            self.control.listen.port() == 0
                || self.control.listen.port() != self.gateway.listen.port(),
            "control.listen and gateway.listen must have different ports",
        );
        require(
            (60..=3_600).contains(&self.control.token_seconds),
            "control.tokenSeconds must be 60 to 3600",
        );
        require(
            self.control.requests_per_second > 0,
            "control.requestsPerSecond must be at least 1",
        );
        require(self.gateway.workers != Some(0), "gateway.workers must be at least 1");
        require(self.gateway.max_connections > 0, "gateway.maxConnections must be at least 1");
        require(
            (1_024..=64 * 1024 * 1024).contains(&self.gateway.max_validated_bytes),
            "gateway.maxValidatedBytes must be 1024 to 67108864",
        );
        require(
            (1_024..=100 * 1024 * 1024).contains(&self.specifications.max_bytes),
            "specifications.maxBytes must be 1024 to 104857600",
        );
        let is_known = self.database.url.as_ref().is_none_or(|url| {
            ["sqlite:", "postgres:", "postgresql:"]
                .iter()
                .any(|scheme| url.expose().starts_with(scheme))
        });
        if let Some(mistake) = self.tracing.as_ref().and_then(Tracing::mistake) {
            require(false, mistake);
        }
        if let Some(mistake) = self.notices.smtp.as_ref().and_then(Smtp::mistake) {
            require(false, mistake);
        }
        require(self.notices.digest_hour < 24, "notices.digestHour must be 0 to 23");
        require(
            (1..=1_000).contains(&self.portal.sessions_per_person),
            "portal.sessionsPerPerson must be 1 to 1000",
        );
        require(
            self.portal.public_url.as_deref().is_none_or(is_base_url),
            "portal.publicUrl must be http:// or https:// with a host, and at most a path",
        );
        let fields = self.log.access_fields.as_ref();
        require(
            fields.is_none_or(|fields| !fields.is_empty()),
            "log.accessFields must name a field, or be absent",
        );
        require(is_known, "database.url must begin with sqlite: or postgres:");
        require(
            self.control.url.as_ref().is_none_or(|url| feed_address(url).is_some()),
            "control.url must be https://HOST:PORT",
        );
        require(
            self.feed.max_age_seconds.is_none_or(|seconds| seconds >= 30),
            "feed.maxAgeSeconds must be at least 30",
        );
        require(
            self.feed.when_too_old == WhenTooOld::Serve || self.feed.max_age_seconds.is_some(),
            "feed.whenTooOld is refuse, but feed.maxAgeSeconds does not say when that is",
        );
        if mistakes.is_empty() { Ok(()) } else { Err(ConfigError::Values(mistakes)) }
    }
}

/// Whether an address can stand before the path of a page.
fn is_base_url(url: &str) -> bool {
    let rest = ["http://", "https://"].iter().find_map(|start| url.strip_prefix(start));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.chars().all(|c| c.is_ascii_graphic() && !"?#@\"<>\\".contains(c))
    })
}

impl Control {
    /// Host and port of the control plane's feed.
    pub fn feed_address(&self) -> Option<String> {
        self.url.as_deref().and_then(feed_address)
    }
}

/// Host and port out of `https://HOST:PORT`.
fn feed_address(url: &str) -> Option<String> {
    let address = url.strip_prefix("https://")?.trim_end_matches('/');
    let (host, port) = address.rsplit_once(':')?;
    let is_plain = !host.is_empty() && !host.contains(['/', '?', '#', '@']);
    (is_plain && port.parse::<u16>().is_ok()).then(|| address.to_owned())
}

impl Secret {
    /// A secret that is already known.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn resolve(text: &str) -> Result<String, String> {
        let Some(reference) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
        else {
            return Ok(text.to_owned());
        };
        match reference.split_once(':') {
            Some(("env", name)) => std::env::var(name).map_err(|error| {
                format!("the variable {name} of the environment cannot be used: {error}")
            }),
            Some(("file", path)) => fs::read_to_string(path)
                .map(|content| content.trim_end().to_owned())
                .map_err(|error| format!("the file {path} cannot be read: {error}")),
            _ => Err("a reference must be ${env:NAME} or ${file:PATH}".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::resolve(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULT_FILE;

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        assert_eq!(Settings::parse(DEFAULT_FILE).unwrap(), Settings::default());
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
    }

    #[test]
    fn an_unknown_setting_is_an_error_with_its_place() {
        let error = Settings::parse("gateway:\n  lisen: 0.0.0.0:80\n").unwrap_err();
        assert!(error.contains("lisen") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn an_access_log_has_only_fields_that_are_known() {
        let settings = Settings::parse("log: { access: stdout, accessFields: [time, durationMs] }");
        let fields = settings.unwrap().log.access_fields.unwrap();
        assert_eq!(fields, [AccessField::Time, AccessField::DurationMs]);
        let error = Settings::parse("log: { access: stdout, accessFields: [time, path] }");
        assert!(error.unwrap_err().contains("path"));
    }

    #[test]
    fn traces_go_to_a_collector_without_credentials_in_its_address() {
        let mistake = |tracing: &str| {
            let settings = Settings::parse(&format!("tracing: {tracing}")).unwrap();
            settings.check().err().map(|error| error.to_string())
        };
        assert_eq!(mistake("{ endpoint: 'http://collector:4318/v1/traces' }"), None);
        assert!(mistake("{ endpoint: 'http://me:hush@collector' }").unwrap().contains("headers"));
        assert!(mistake("{ endpoint: 'collector:4318' }").unwrap().contains("http://"));
        let ratio = mistake("{ endpoint: 'http://collector', sampleRatio: 1.5 }");
        assert!(ratio.unwrap().contains("sampleRatio"));
    }

    #[test]
    fn e_mail_leaves_this_machine_protected_only() {
        let mistake = |smtp: &str| {
            let text = format!("notices: {{ smtp: {{ from: a@b.example, {smtp} }} }}");
            Settings::parse(&text).unwrap().check().err().map(|error| error.to_string())
        };
        assert_eq!(mistake("host: mail.example"), None);
        for host in ["127.0.0.1", "localhost", "'::1'"] {
            assert_eq!(mistake(&format!("host: {host}, tls: none")), None, "{host}");
        }
        assert!(mistake("host: 10.0.0.1, tls: none").unwrap().contains("this machine"));
        assert!(mistake("host: localhost.example, tls: none").unwrap().contains("this machine"));
        assert!(mistake("host: mail.example, user: me").unwrap().contains("passwordFile"));
        assert!(mistake("host: 'a b'").unwrap().contains("host"));
        assert!(Settings::parse("notices: { smtp: { host: a.example } }").is_err(), "no sender");
    }

    #[test]
    fn the_portal_has_an_address_that_paths_can_be_added_to() {
        let is_fine = |url: &str| {
            let settings = Settings::parse(&format!("portal: {{ publicUrl: '{url}' }}")).unwrap();
            settings.check().is_ok()
        };
        assert!(is_fine("https://apis.example.org") && is_fine("http://10.0.0.1:8081/portal/"));
        for bad in
            ["apis.example.org", "https://", "https:///x", "https://a?b", "ftp://a", "https://a b"]
        {
            assert!(!is_fine(bad), "{bad}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let text = "control: { tokenSeconds: 5 }\ngateway: { workers: 0 }\n";
        let error = Settings::parse(text).unwrap().check().unwrap_err().to_string();
        assert!(error.contains("tokenSeconds") && error.contains("workers"), "{error}");
    }

    #[test]
    fn secrets_are_read_from_files_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        fs::write(&path, "postgres://caduceus:hush@db/caduceus\n").unwrap();
        let text = format!("database: {{ url: \"${{file:{}}}\" }}", path.display());
        let settings = Settings::parse(&text).unwrap();
        assert_eq!(
            settings.database.url.as_ref().map(Secret::expose),
            Some("postgres://caduceus:hush@db/caduceus")
        );
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
