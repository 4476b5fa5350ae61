//! Leaks on purpose, in builds with debug assertions only: by them one sees that the proof of isolation notices leaks.
//! In other builds nothing of it is there.

use crate::Viewer;

/// A leak that can be had on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Everybody reads every application.
    ReadsAny = 1,
    /// Everybody lists everybody's audit trail.
    ListsAll = 2,
    /// A list of people counts those of all tenants.
    CountsAll = 3,
    /// APIs of others are refused instead of absent.
    SeesAny = 4,
    /// The gateway tells strangers of routes that are not shown to them.
    RoutesAny = 5,
}

impl Planted {
    /// The viewer; when this leak was planted, the whole installation.
    pub(crate) fn widen(self, viewer: Viewer) -> Viewer {
        if self.is_there() { Viewer::Installation } else { viewer }
    }
}

#[cfg(debug_assertions)]
mod there {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Planted;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    impl Planted {
        /// Leaks from here on in the way with this number.
        pub fn plant(number: u8) {
            PLANTED.store(number, Ordering::Relaxed);
        }

        /// Whether this one was planted.
        pub fn is_there(self) -> bool {
            PLANTED.load(Ordering::Relaxed) == self as u8
        }
    }
}

#[cfg(not(debug_assertions))]
impl Planted {
    /// Whether this one was planted; it never was.
    pub const fn is_there(self) -> bool {
        false
    }
}
