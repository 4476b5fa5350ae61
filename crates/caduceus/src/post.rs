//! The courier that carries letters to the mail server, out of the configuration.

use anyhow::Context;
use config::{Settings, SmtpTls};
use mail::{Courier, CourierSettings, Protection, ServerSettings, SignIn};
use model::Clock;
use zeroize::Zeroizing;

/// The courier; none where no mail server is configured. `holder` names this machine.
pub(crate) fn courier(
    settings: &Settings,
    holder: String,
    clock: Clock,
) -> anyhow::Result<Option<Courier>> {
    let Some(smtp) = &settings.notices.smtp else { return Ok(None) };
    let sign_in = smtp.credentials()?.map(|(user, password)| SignIn {
        user,
        password: Zeroizing::new(password.expose().to_owned()),
    });
    let server = ServerSettings {
        host: smtp.host.clone(),
        port: smtp.port(),
        protection: match smtp.tls {
            SmtpTls::Starttls => Protection::StartTls,
            SmtpTls::Implicit => Protection::Implicit,
            SmtpTls::None => Protection::None,
        },
        authorities: smtp.authorities()?,
        sign_in,
        from: smtp.from.clone(),
    };
    let portal_url = settings.portal.public_url.clone();
    let courier = Courier::new(CourierSettings { server, portal_url, holder }, clock);
    Ok(Some(courier.context("notices.smtp cannot be used")?))
}
