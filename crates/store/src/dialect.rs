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
            Self::Postgres => begin(viewer, "BEGIN"),
        }
    }

    /// How a reading transaction begins.
    pub(crate) fn begin_read(self, viewer: Viewer) -> AssertSqlSafe<String> {
        match self {
            Self::Sqlite => AssertSqlSafe("BEGIN".to_owned()),
            Self::Postgres => begin(viewer, "BEGIN"),
        }
    }

    /// How a reading transaction begins all of whose statements see one state. In SQLite they always do.
    pub(crate) fn begin_read_steady(self, viewer: Viewer) -> AssertSqlSafe<String> {
        match self {
            Self::Sqlite => self.begin_read(viewer),
            Self::Postgres => begin(viewer, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        }
    }

    /// Goes on as another viewer.
    pub(crate) fn view_as(self, viewer: Viewer) -> Option<String> {
        match (self, viewer) {
            (Self::Sqlite, _) => None,
            (Self::Postgres, Viewer::Installation) => {
                Some("SET LOCAL ROLE caduceus_installation".to_owned())
            }
            (Self::Postgres, Viewer::Tenant(tenant)) => {
                Some(format!("SET LOCAL ROLE caduceus_app; SET LOCAL caduceus.viewer = '{tenant}'"))
            }
        }
    }

    /// Makes what is numbered commit in the order of its numbers; it is the installation that numbers.
    pub(crate) const fn lock_numbers(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => {
                Some("SET LOCAL ROLE caduceus_installation; SELECT pg_advisory_xact_lock(4881701)")
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

    /// Whether a column is one of the texts in an argument, such as `$1`, which are separated by commas.
    pub(crate) fn is_one_of(self, column: &str, argument: &str) -> String {
        match self {
            Self::Sqlite => format!(
                "{column} IN (SELECT value FROM json_each('[\"' || replace({argument}, ',', '\",\"') || '\"]'))"
            ),
            Self::Postgres => format!("{column} = ANY (string_to_array({argument}, ','))"),
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

/// The beginning of a transaction on PostgreSQL, over a connection that has the role of such a viewer. A tenant is named in the
/// same message; what stands in quotes is its identifier.
fn begin(viewer: Viewer, begin: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(match viewer {
        Viewer::Installation => begin.to_owned(),
        Viewer::Tenant(tenant) => format!("{begin}; SET LOCAL caduceus.viewer = '{tenant}'"),
    })
}
