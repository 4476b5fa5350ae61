//! What can go wrong with the database.

/// What went wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or gave no connection in time.
    #[error("the database is not available for {operation}")]
    Unavailable {
        /// The store function.
        operation: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// A uniqueness constraint refused the row.
    #[error("{operation} met a row with the same key")]
    Duplicate {
        /// The store function.
        operation: &'static str,
    },
    /// A row that refers to this one, or that this one refers to, stands in the way.
    #[error("{operation} would break a reference")]
    Referenced {
        /// The store function.
        operation: &'static str,
    },
    /// The row was changed by somebody else since it was read.
    #[error("{operation} met a newer revision")]
    Stale {
        /// The store function.
        operation: &'static str,
    },
    /// A statement failed.
    #[error("{operation} failed")]
    Statement {
        /// The store function.
        operation: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value cannot be read back.
    #[error("{operation} read a value of column {column} that is not well-formed: {reason}")]
    Corrupt {
        /// The store function.
        operation: &'static str,
        /// The column.
        column: &'static str,
        /// Why it cannot be read.
        reason: String,
    },
    /// A value cannot be written as JSON.
    #[error("{operation} could not write a value as JSON")]
    Encode {
        /// The store function.
        operation: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The roles of the application are missing, and could not be made.
    #[error(
        "the roles caduceus_app and caduceus_installation are missing and could not be made: have an administrator of the \
         PostgreSQL server run CREATE ROLE caduceus_app; CREATE ROLE caduceus_installation; \
         GRANT caduceus_app, caduceus_installation TO the user of the database URL"
    )]
    RoleMissing {
        /// Why it could not be made.
        #[source]
        source: Box<StoreError>,
    },
    /// The database was made by a newer version of Caduceus.
    #[error(
        "the database has schema {found}, this version knows schema {known}: use a newer version of Caduceus"
    )]
    NewerSchema {
        /// Schema of the database.
        found: i64,
        /// Schema that this version knows.
        known: i64,
    },
}

impl StoreError {
    /// Whether the database could not be reached, so that nothing was done.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn sql(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| match &source {
            sqlx::Error::Database(error) if error.is_unique_violation() => {
                Self::Duplicate { operation }
            }
            sqlx::Error::Database(error) if error.is_foreign_key_violation() => {
                Self::Referenced { operation }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable { operation, source },
            // Class 57P: the server is starting, stopping or has ended the connection.
            sqlx::Error::Database(error)
                if error.code().is_some_and(|code| code.starts_with("57P")) =>
            {
                Self::Unavailable { operation, source }
            }
            _ => Self::Statement { operation, source },
        }
    }
}
