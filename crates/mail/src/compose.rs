//! What stands in an e-mail, as plain text and as HTML. The subject travels in the open and names nothing.

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use market::{InstallationSettings, Outgoing};
use model::NoticeKind;

/// Why an e-mail cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    /// The address of the person is none that e-mail knows.
    #[error("the address cannot be used for e-mail")]
    Address(#[from] lettre::address::AddressError),
    /// The parts do not make an e-mail.
    #[error("the e-mail could not be put together")]
    Message(#[from] lettre::error::Error),
}

/// A piece of the body.
enum Piece {
    Words(String),
    /// An address to open.
    Link(String),
    /// Something to copy.
    Token(String),
    Small(String),
}

const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

/// Writes an e-mail. `portal` is where the portal is reached, without a slash at its end.
pub(crate) fn compose(
    outgoing: &Outgoing,
    from: &Address,
    installation: &InstallationSettings,
    portal: Option<&str>,
    now: Timestamp,
) -> Result<Message, ComposeError> {
    let to: Address = outgoing.email.as_str().parse()?;
    let pieces = body(outgoing, installation, portal);
    let message = Message::builder()
        .from(Mailbox::new(Some(installation.name.to_string()), from.clone()))
        .to(Mailbox::new(Some(outgoing.name.to_string()), to))
        .subject(subject(outgoing))
        .message_id(Some(format!("<{}@{}>", outgoing.letter.id, from.domain())))
        .date(SystemTime::from(now))
        // Nobody is to be answered that somebody is on holiday (RFC 3834).
        .raw_header(HeaderValue::new(AUTO_SUBMITTED, "auto-generated".to_owned()))
        .multipart(MultiPart::alternative_plain_html(plain(&pieces), html(&pieces)))?;
    Ok(message)
}

fn subject(outgoing: &Outgoing) -> &'static str {
    match outgoing.notices.as_slice() {
        [only] if outgoing.more == 0 => only.news.kind().subject(),
        _ => "Your notices",
    }
}

fn body(
    outgoing: &Outgoing,
    installation: &InstallationSettings,
    portal: Option<&str>,
) -> Vec<Piece> {
    let mut pieces = vec![Piece::Words(format!("Hello {},", outgoing.name))];
    for notice in &outgoing.notices {
        pieces.push(Piece::Words(notice.news.text()));
        if notice.news.kind() == NoticeKind::Invitation {
            pieces.extend(invitation(outgoing, portal));
        } else if let Some(portal) = portal {
            pieces.push(Piece::Link(format!("{portal}{}", notice.news.place())));
        }
    }
    if outgoing.more > 0 {
        pieces.push(Piece::Words(format!("There are {} more in your inbox.", outgoing.more)));
    }
    let help = installation
        .support_email
        .as_ref()
        .map_or_else(String::new, |email| format!(" For help, write to {email}."));
    pieces.push(Piece::Small(format!(
        "{} sent this e-mail by itself; answers to it are not read. The settings of your notices say which ones you \
         get.{help}",
        installation.name
    )));
    pieces
}

/// How an invitation is accepted. The token is typed in, so that it stands in no address.
fn invitation(outgoing: &Outgoing, portal: Option<&str>) -> Vec<Piece> {
    let Some(invitation) = &outgoing.invitation else { return Vec::new() };
    let mut pieces = Vec::new();
    match portal {
        Some(portal) => {
            pieces.push(Piece::Words("Open this page:".to_owned()));
            pieces.push(Piece::Link(format!("{portal}/invitation")));
            pieces.push(Piece::Words("Give this one-time token, and choose a password:".to_owned()));
        }
        None => pieces.push(Piece::Words(
            "Send this one-time token and a password of your own to POST /api/v1/auth/accept-invitation:".to_owned(),
        )),
    }
    pieces.push(Piece::Token(invitation.token.to_string()));
    let end = invitation.expires_at.strftime("%-d %B %Y at %H:%M UTC");
    pieces.push(Piece::Words(format!(
        "It is good until {end}. Whoever has it can take your place, so give it to nobody."
    )));
    pieces
}

fn plain(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Words(words) => text.push_str(words),
            Piece::Link(link) | Piece::Token(link) => {
                text.push_str("    ");
                text.push_str(link);
            }
            // The mark behind which mail programs expect what is not the message itself.
            Piece::Small(words) => {
                text.push_str("-- \n");
                text.push_str(words);
            }
        }
        text.push_str("\n\n");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn html(pieces: &[Piece]) -> String {
    let mut text = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"></head>\
         <body style=\"font-family:sans-serif;line-height:1.5;max-width:40em\">\n",
    );
    for piece in pieces {
        let line = match piece {
            Piece::Words(words) => format!("<p>{}</p>\n", escape(words)),
            Piece::Link(link) => {
                let link = escape(link);
                format!("<p><a href=\"{link}\">{link}</a></p>\n")
            }
            Piece::Token(token) => format!("<p><code>{}</code></p>\n", escape(token)),
            Piece::Small(words) => format!("<hr><p><small>{}</small></p>\n", escape(words)),
        };
        text.push_str(&line);
    }
    text.push_str("</body></html>\n");
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use market::OneTimeInvitation;
    use model::{ApiId, Email, Letter, LetterId, Name, News, Notice, NoticeId, Release, UserId};
    use zeroize::Zeroizing;

    use super::*;

    fn notice(number: u128, news: News) -> Notice {
        let at = Timestamp::UNIX_EPOCH;
        let (id, user) = (NoticeId::from_bits(number), UserId::from_bits(1));
        Notice { id, user, news, at, read_at: None }
    }

    fn retired(name: &str) -> News {
        let (api, number) = (ApiId::from_bits(3), semver::Version::new(1, 0, 0));
        News::VersionRetired { release: Release { api, name: Name::parse(name).unwrap(), number } }
    }

    fn written(notices: Vec<Notice>, token: Option<&str>, name: &str) -> String {
        let outgoing = Outgoing {
            letter: Letter {
                id: LetterId::from_bits(2),
                user: UserId::from_bits(1),
                tried_since: Timestamp::UNIX_EPOCH,
                attempts: 1,
            },
            email: Email::parse("ada@clinic.example").unwrap(),
            name: Name::parse(name).unwrap(),
            notices,
            more: 0,
            invitation: token.map(|token| OneTimeInvitation {
                token: Zeroizing::new(token.to_owned()),
                expires_at: Timestamp::UNIX_EPOCH,
            }),
        };
        let from = "apis@hospital.example".parse().unwrap();
        let settings = InstallationSettings::default();
        let portal = Some("https://apis.example");
        let message = compose(&outgoing, &from, &settings, portal, Timestamp::UNIX_EPOCH).unwrap();
        String::from_utf8(message.formatted()).unwrap()
    }

    #[test]
    fn the_subject_names_nothing_and_the_body_is_escaped() {
        let text = written(vec![notice(1, retired("Lab <b>results</b>"))], None, "Ada");
        assert!(text.contains("\r\nSubject: A version that you use has ended\r\n"), "{text}");
        assert!(text.contains("\r\nAuto-Submitted: auto-generated\r\n"), "{text}");
        assert!(text.contains("@hospital.example>\r\n"), "{text}");
        let (_, html) = text.split_once("text/html").unwrap();
        assert!(html.contains("&lt;b&gt;results") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn several_notices_make_one_letter() {
        let notices = vec![notice(1, retired("One")), notice(2, retired("Two"))];
        let text = written(notices, None, "Ada");
        assert!(text.contains("Subject: Your notices\r\n"), "{text}");
        assert!(text.contains("One 1.0.0 has ended") && text.contains("Two 1.0.0 has ended"));
    }

    #[test]
    fn a_name_cannot_add_a_header() {
        let text = written(vec![notice(1, retired("One"))], None, "\"Ada\" <x@y.example>, Eve");
        let headers = text.split_once("\r\n\r\n").unwrap().0;
        let to: Vec<_> = headers.lines().filter(|line| line.starts_with("To:")).collect();
        assert_eq!(to.len(), 1, "{headers}");
        assert!(headers.contains("<ada@clinic.example>"), "{headers}");
    }

    #[test]
    fn the_token_of_an_invitation_stands_in_no_address() {
        let tenant = Name::parse("North Clinic").unwrap();
        let text = written(vec![notice(1, News::Invitation { tenant })], Some("t0ken"), "Ada");
        assert_eq!(text.matches("t0ken").count(), 2, "{text}");
        assert!(text.contains("    t0ken\r\n") && text.contains("<code>t0ken</code>"), "{text}");
    }
}
