//! Pages of lists.

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows to leave out.
    pub offset: i64,
    /// Rows to give, at most 200.
    pub limit: i64,
}

impl Page {
    /// The most rows in one page.
    pub const LIMIT_MAX: u32 = 200;

    /// This part of a list that is already whole.
    pub fn of<T>(self, whole: Vec<T>) -> PageOf<T> {
        let at = |number: i64| usize::try_from(number).unwrap_or(0);
        let total = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        let items = whole.into_iter().skip(at(self.offset)).take(at(self.limit)).collect();
        PageOf { items, total }
    }

    /// Page `page`, counted from 1, of `limit` rows each; both are brought into their range.
    pub fn numbered(page: u32, limit: u32) -> Self {
        let limit = limit.clamp(1, Self::LIMIT_MAX);
        Self {
            offset: i64::from(page.saturating_sub(1)) * i64::from(limit),
            limit: i64::from(limit),
        }
    }
}

/// A part of a list, and how long the whole is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOf<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// How many rows there are on all pages.
    pub total: u64,
}
