//! Where the time comes from.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

/// A source of the current time, handed to whatever needs one.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock, in whole microseconds: what is shown is what is stored.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let now = Timestamp::now();
            Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
        }))
    }

    /// A clock that always shows the same time, for testing rules.
    pub fn fixed(at: Timestamp) -> Self {
        Self::from_source(move || at)
    }

    /// A clock that shows what `source` says, for testing what happens when a clock is set.
    pub fn from_source(source: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Clock")
    }
}
