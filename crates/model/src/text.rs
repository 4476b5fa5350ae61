//! Small texts with rules: names, slugs and e-mail addresses.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// The text is empty or only white space.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than allowed.
    #[error("must have at most {0} characters")]
    TooLong(usize),
    /// The text contains a control character.
    #[error("must not contain control characters")]
    Control,
    /// The text is not of the expected form.
    #[error("{0}")]
    Form(&'static str),
}

macro_rules! checked_text {
    ($($(#[$doc:meta])* $name:ident, $check:path, $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a text; fails with the rule that it breaks.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                $check(text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidText;

            fn try_from(text: String) -> Result<Self, InvalidText> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, out)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    )*};
}

checked_text! {
    /// A name that people read: 1 to 120 characters on one line, without surrounding white space.
    Name, check_name, { "type": "string", "minLength": 1, "maxLength": 120 };
    /// A name for machines: lower-case letters, digits and single hyphens, 1 to 63 characters.
    Slug, check_slug, {
        "type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"
    };
    /// An e-mail address, kept in lower case: one `@`, a dotted domain, at most 254 characters.
    Email, check_email, { "type": "string", "format": "email", "maxLength": 254 };
}

const NAME_MAX: usize = 120;
const SLUG_MAX: usize = 63;
const EMAIL_MAX: usize = 254;

fn check_name(text: &str) -> Result<String, InvalidText> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidText::Empty);
    }
    if text.chars().count() > NAME_MAX {
        return Err(InvalidText::TooLong(NAME_MAX));
    }
    if text.chars().any(|c| c.is_control() || turns_text(c)) {
        return Err(InvalidText::Control);
    }
    Ok(text.to_owned())
}

/// Whether a character turns the direction of what follows (Unicode Standard Annex #9): with them a name can be made to
/// look like another one. Names in scripts that run from right to left need none.
const fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn check_slug(text: &str) -> Result<String, InvalidText> {
    if text.is_empty() {
        return Err(InvalidText::Empty);
    }
    if text.len() > SLUG_MAX {
        return Err(InvalidText::TooLong(SLUG_MAX));
    }
    let well_formed = text.split('-').all(|part| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });
    if !well_formed {
        return Err(InvalidText::Form("must be lower-case letters, digits and single hyphens"));
    }
    Ok(text.to_owned())
}

fn check_email(text: &str) -> Result<String, InvalidText> {
    const FORM: InvalidText =
        InvalidText::Form("must be an e-mail address such as name@example.org");
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidText::Empty);
    }
    if text.len() > EMAIL_MAX {
        return Err(InvalidText::TooLong(EMAIL_MAX));
    }
    let Some((local, domain)) = text.rsplit_once('@') else { return Err(FORM) };
    let local_ok = !local.is_empty()
        && local.len() <= 64
        && local.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '@');
    let domain_ok = domain.contains('.')
        && domain.split('.').all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        });
    if local_ok && domain_ok { Ok(text.to_lowercase()) } else { Err(FORM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(Name::parse("  Lab results ").unwrap().as_str(), "Lab results");
        assert_eq!(Name::parse(" "), Err(InvalidText::Empty));
        assert_eq!(Name::parse("a\nb"), Err(InvalidText::Control));
        assert_eq!(Name::parse("a\u{202e}b"), Err(InvalidText::Control));
        assert_eq!(Name::parse("תוצאות מעבדה").unwrap().as_str(), "תוצאות מעבדה");
        assert_eq!(Name::parse(&"x".repeat(121)), Err(InvalidText::TooLong(120)));
    }

    #[test]
    fn slugs_have_single_hyphens() {
        assert!(Slug::parse("north-clinic-2").is_ok());
        for bad in ["", "-a", "a-", "a--b", "A", "a_b"] {
            assert!(Slug::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn emails_need_a_dotted_domain_and_are_lowered() {
        assert_eq!(Email::parse("Ada@Clinic.Example").unwrap().as_str(), "ada@clinic.example");
        for bad in ["", "a", "a@", "@b.c", "a@b", "a b@c.d", "a@b..c"] {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
    }
}
