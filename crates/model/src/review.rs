//! What people of subscribers say about APIs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ApiId, ApiReviewId, TenantId, UserId};

/// What a person says about an API that the own organisation calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiReview {
    /// Identifier.
    pub id: ApiReviewId,
    /// The API.
    pub api: ApiId,
    /// Who says it.
    pub author: UserId,
    /// The organisation of the author.
    pub tenant: TenantId,
    /// From one to five.
    pub stars: Stars,
    /// Plain text; may be empty.
    pub words: String,
    /// When it was first said.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

/// From one to five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Stars(u8);

/// A number of stars that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 5")]
pub struct InvalidStars;

/// How an API is rated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rating {
    /// How many reviews there are.
    pub reviews: u64,
    /// All their stars together.
    pub stars: u64,
}

impl Stars {
    /// As a number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Stars {
    type Error = InvalidStars;

    fn try_from(stars: u8) -> Result<Self, InvalidStars> {
        if (1..=5).contains(&stars) { Ok(Self(stars)) } else { Err(InvalidStars) }
    }
}

impl From<Stars> for u8 {
    fn from(stars: Stars) -> Self {
        stars.0
    }
}

impl schemars::JsonSchema for Stars {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Stars".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": 5 })
    }
}

impl Rating {
    /// The mean in tenths of a star; none without reviews.
    pub const fn tenths(self) -> Option<u64> {
        match self.reviews {
            0 => None,
            reviews => Some((self.stars * 10 + reviews / 2) / reviews),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_one_to_five_and_a_mean_is_rounded() {
        assert_eq!(Stars::try_from(0), Err(InvalidStars));
        assert_eq!(Stars::try_from(6), Err(InvalidStars));
        assert_eq!(Stars::try_from(5).map(Stars::get), Ok(5));
        assert_eq!(Rating { reviews: 3, stars: 13 }.tenths(), Some(43));
        assert_eq!(Rating::default().tenths(), None);
    }
}
