//! Databases, one per test.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::Postgres;

/// A database that nobody else uses.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// In the data folder of the installation.
    Sqlite,
    /// On a server; its owner drops it with the test.
    Postgres { server: String, name: String, is_owner: bool },
}

impl Database {
    /// An empty SQLite database in the data folder.
    pub const fn sqlite() -> Self {
        Self { kind: Kind::Sqlite }
    }

    /// An empty PostgreSQL database on the server that all tests share.
    pub async fn postgres() -> Self {
        Self::on(&Postgres::shared_url().await).await
    }

    /// An empty PostgreSQL database on this server.
    pub async fn on(server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let now = jiff::Timestamp::now().as_nanosecond();
        let name = format!("caduceus_{}_{now}_{number}", std::process::id());
        execute(server, &format!("CREATE DATABASE {name}"))
            .await
            .unwrap_or_else(|error| panic!("no database could be made at {server}: {error}"));
        Self { kind: Kind::Postgres { server: server.to_owned(), name, is_owner: true } }
    }

    /// The same database, for another process; it has to be on a server.
    pub(crate) fn shared(&self) -> Self {
        let Kind::Postgres { server, name, .. } = &self.kind else {
            panic!("an SQLite database has one process")
        };
        let (server, name) = (server.clone(), name.clone());
        Self { kind: Kind::Postgres { server, name, is_owner: false } }
    }

    /// Its URL; none for the default in the data folder.
    pub fn url(&self) -> Option<String> {
        match &self.kind {
            Kind::Sqlite => None,
            Kind::Postgres { server, name, .. } => {
                let (base, _) = server.rsplit_once('/').unwrap();
                Some(format!("{base}/{name}"))
            }
        }
    }
}

impl Database {
    /// Runs statements; `sqlite` is the file when it is an SQLite database.
    pub(crate) async fn change(&self, sqlite: &std::path::Path, statements: &str) {
        use sqlx::{Connection, SqliteConnection};
        match self.url() {
            Some(url) => execute(&url, statements).await.unwrap(),
            None => {
                let url = format!("sqlite://{}", sqlite.display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                let statements = sqlx::AssertSqlSafe(statements.to_owned());
                sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Kind::Postgres { server, name, is_owner: true } = &self.kind else { return };
        let (server, statement) =
            (server.clone(), format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        // A thread of its own: the test's runtime may be ending. A server that is gone has dropped it for us.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(execute(&server, &statement)).is_ok())
        });
        drop(dropping.join());
    }
}

async fn execute(server: &str, statement: &str) -> Result<(), sqlx::Error> {
    use sqlx::{Connection, PgConnection};
    let mut connection = PgConnection::connect(server).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await
}
