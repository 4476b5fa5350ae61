//! The conversation with the server that takes e-mails (RFC 5321), each step with a deadline.
//!
//! What a server says is never kept or logged beyond its code: it may quote addresses and content.

use std::time::Duration;

use lettre::{
    Address, Message,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::{ClientId, Extension, MailParameter},
    },
};
use market::LetterOutcome;
use model::Email;
use zeroize::Zeroizing;

/// Where e-mails are handed in.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Name or address, which the certificate has to have.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub protection: Protection,
    /// Authorities that are trusted instead of the public ones, in PEM.
    pub authorities: Option<String>,
    /// Who signs in; nobody when absent.
    pub sign_in: Option<SignIn>,
    /// The address that e-mails come from.
    pub from: Email,
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// It has to go over to TLS before anything is said.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// Not at all.
    None,
}

/// A name and a password.
#[derive(Clone)]
pub struct SignIn {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
}

/// Why the settings of a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableServer {
    /// The authorities are not well-formed.
    #[error("the certificates of the authorities for the mail server cannot be used")]
    Authorities(#[source] Error),
    /// The sender is no address that e-mail knows.
    #[error("the address that e-mails come from cannot be used")]
    Sender(#[source] lettre::address::AddressError),
}

/// A server, ready to be connected to.
pub(crate) struct Server {
    settings: ServerSettings,
    tls: Option<TlsParameters>,
    pub(crate) from: Address,
    hello: ClientId,
}

/// A connection on which the server is ready to take e-mails.
pub(crate) struct Connection(AsyncSmtpConnection);

/// What became of one e-mail, and whether the connection is still of use.
pub(crate) struct Handed {
    pub(crate) outcome: LetterOutcome,
    pub(crate) is_usable: bool,
}

/// For connecting, greeting, TLS and signing in together. Some servers greet late on purpose.
const OPEN: Duration = Duration::from_secs(30);
/// For one e-mail.
const HAND_OVER: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(2);

impl std::fmt::Debug for SignIn {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SignIn").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Server {
    /// Checks the settings of a server.
    pub(crate) fn new(settings: ServerSettings) -> Result<Self, UnusableServer> {
        let from: Address = settings.from.as_str().parse().map_err(UnusableServer::Sender)?;
        let tls = match settings.protection {
            Protection::None => None,
            Protection::StartTls | Protection::Implicit => {
                let mut parameters = TlsParameters::builder(settings.host.clone());
                parameters = match &settings.authorities {
                    Some(pem) => {
                        parameters.certificate_store(CertificateStore::None).add_root_certificate(
                            Certificate::from_pem(pem.as_bytes())
                                .map_err(UnusableServer::Authorities)?,
                        )
                    }
                    None => parameters.certificate_store(CertificateStore::WebpkiRoots),
                };
                Some(parameters.build().map_err(UnusableServer::Authorities)?)
            }
        };
        let hello = ClientId::Domain(from.domain().to_owned());
        Ok(Self { settings, tls, from, hello })
    }

    /// Connects, protects the connection and signs in. None of that is about one e-mail, so that a failure puts all off.
    pub(crate) async fn open(&self) -> Result<Connection, LetterOutcome> {
        match tokio::time::timeout(OPEN, self.try_open()).await {
            Ok(opened) => opened,
            Err(_) => Err(LetterOutcome::Deferred("the mail server does not answer in time", None)),
        }
    }

    async fn try_open(&self) -> Result<Connection, LetterOutcome> {
        let put_off = |reason| {
            move |error: Error| LetterOutcome::Deferred(reason, error.status().map(u16::from))
        };
        let settings = &self.settings;
        let implicit = match settings.protection {
            Protection::Implicit => self.tls.clone(),
            Protection::StartTls | Protection::None => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (settings.host.as_str(), settings.port),
            Some(OPEN),
            &self.hello,
            implicit,
            None,
        )
        .await
        .map_err(|error| {
            let reason = if error.is_tls() {
                "no protected connection with the mail server could be made"
            } else {
                "the mail server cannot be reached or turns us away"
            };
            put_off(reason)(error)
        })?;
        if let (Protection::StartTls, Some(tls)) = (settings.protection, &self.tls) {
            connection
                .starttls(tls.clone(), &self.hello)
                .await
                .map_err(put_off("the mail server does not go over to TLS"))?;
        }
        if let Some(SignIn { user, password }) = &settings.sign_in {
            let credentials = Credentials::new(user.clone(), password.to_string());
            connection
                .auth(DEFAULT_MECHANISMS, &credentials)
                .await
                .map_err(put_off("the mail server does not let us sign in"))?;
        }
        Ok(Connection(connection))
    }
}

impl Connection {
    /// Hands one e-mail over.
    pub(crate) async fn hand_over(&mut self, message: &Message) -> Handed {
        match tokio::time::timeout(HAND_OVER, self.try_hand_over(message)).await {
            Ok(handed) => handed,
            Err(_) => Handed::broken(LetterOutcome::Deferred(
                "the mail server did not take it in time",
                None,
            )),
        }
    }

    async fn try_hand_over(&mut self, message: &Message) -> Handed {
        let envelope = message.envelope();
        let mut parameters = Vec::new();
        let mut addresses = envelope.to().iter().chain(envelope.from());
        if addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
            if !self.0.server_info().supports_feature(Extension::SmtpUtfEight) {
                let reason = "the mail server takes no address with such characters";
                let outcome = LetterOutcome::Refused(reason, None);
                return Handed { outcome, is_usable: true };
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        // A server that does not want our sender may do so once it is set up: nothing is wrong with the letter.
        if let Err(error) = self.0.command(Mail::new(envelope.from().cloned(), parameters)).await {
            let code = error.status().map(u16::from);
            return Handed::broken(LetterOutcome::Deferred(
                "the mail server does not take e-mails from us",
                code,
            ));
        }
        for address in envelope.to() {
            if let Err(error) = self.0.command(Rcpt::new(address.clone(), Vec::new())).await {
                let handed = Handed::refused(&error, "the mail server refuses the recipient");
                let is_reset = handed.is_usable && self.0.command(Rset).await.is_ok();
                return Handed { is_usable: is_reset, ..handed };
            }
        }
        if let Err(error) = self.0.command(Data).await {
            let code = error.status().map(u16::from);
            return Handed::broken(LetterOutcome::Deferred(
                "the mail server wants no content",
                code,
            ));
        }
        match self.0.message(&message.formatted()).await {
            Ok(_) => Handed { outcome: LetterOutcome::Sent, is_usable: true },
            Err(error) => Handed::refused(&error, "the mail server refuses the content"),
        }
    }

    /// Ends the conversation.
    pub(crate) async fn close(mut self) {
        // Whether the server says goodbye makes no difference.
        drop(tokio::time::timeout(GOODBYE, self.0.quit()).await);
    }
}

impl Handed {
    const fn broken(outcome: LetterOutcome) -> Self {
        Self { outcome, is_usable: false }
    }

    /// A letter that the server says no to: for ever, for now, or because the connection broke.
    fn refused(error: &Error, reason: &'static str) -> Self {
        let code = error.status().map(u16::from);
        if error.is_permanent() {
            Self { outcome: LetterOutcome::Refused(reason, code), is_usable: true }
        } else if error.is_transient() {
            let outcome = LetterOutcome::Deferred("the mail server puts it off", code);
            Self { outcome, is_usable: true }
        } else {
            Self::broken(LetterOutcome::Deferred("the connection with the mail server broke", None))
        }
    }
}
