//! Where the two engines differ.

use sqlx::AssertSqlSafe;

use crate::Viewer;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The embedded one.
    Sqlite,
    /// A server, version 15 or later.
    Postgres,
}

impl Engine {
    /// The engine that a database URL speaks of.
    pub fn of_url(url: &str) -> Option<Self> {
        if url.starts_with("sqlite:") {
            Some(Self::Sqlite)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Some(Self::Postgres)
        } else {
            None
        }
    }

    /// Statements that prepare a new connection.
    pub(crate) const fn on_connect(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA busy_timeout = 10000; PRAGMA cache_size = -1024;"
            }
            Self::Postgres => {
                "SET statement_timeout = '30s'; SET lock_timeout = '10s'; \
                 SET idle_in_transaction_session_timeout = '60s';"
            }
        }
    }

    /// How a writing transaction begins: SQLite takes its one write lock at once, so that it never fails half-way.
    pub(crate) fn begin_write(self, viewer: Viewer) -> AssertSqlSafe<String> {
        match self {
            Self::Sqlite => AssertSqlSafe("BEGIN IMMEDIATE".to_owned()),
            Self::Postgres => AssertSqlSafe(format!("BEGIN; {}", set_viewer(viewer))),
        }
    }

    /// How a reading transaction begins.
    pub(crate) fn begin_read(self, viewer: Viewer) -> AssertSqlSafe<String> {
        match self {
            Self::Sqlite => AssertSqlSafe("BEGIN".to_owned()),
            Self::Postgres => AssertSqlSafe(format!("BEGIN; {}", set_viewer(viewer))),
        }
    }

    /// How a reading transaction begins all of whose statements see one state. In SQLite they always do.
    pub(crate) fn begin_read_steady(self, viewer: Viewer) -> AssertSqlSafe<String> {
        match self {
            Self::Sqlite => self.begin_read(viewer),
            Self::Postgres => AssertSqlSafe(format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}",
                set_viewer(viewer)
            )),
        }
    }

    /// Goes on as another viewer.
    pub(crate) fn view_as(self, viewer: Viewer) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(set_viewer(viewer)),
        }
    }

    /// Makes what is numbered commit in the order of its numbers; it is the installation that numbers.
    pub(crate) const fn lock_numbers(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => {
                Some("SET LOCAL caduceus.viewer = '*'; SELECT pg_advisory_xact_lock(4881701)")
            }
        }
    }

    /// Keeps two replicas from migrating at once.
    pub(crate) const fn lock_migrations(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(4881702)"),
        }
    }

    /// Yields a random number of 62 bits or so.
    pub(crate) const fn random_number(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT random() / 2",
            Self::Postgres => "SELECT CAST(floor(random() * 4611686018427387904) AS BIGINT)",
        }
    }

    /// The type of binary columns.
    pub(crate) const fn blob(self) -> &'static str {
        match self {
            Self::Sqlite => "BLOB",
            Self::Postgres => "BYTEA",
        }
    }
}

/// Tells PostgreSQL through whose eyes the rest of the transaction reads. What stands in quotes is an identifier or `*`.
fn set_viewer(viewer: Viewer) -> String {
    format!("SET LOCAL caduceus.viewer = '{}'", viewer.argument())
}
