//! A connection to PostgreSQL of one's own, beside those of the program.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::Database;

/// A connection with the rights of a superuser, until it takes a role.
#[derive(Debug)]
pub struct Sql(PgConnection);

impl Sql {
    /// Connects to a database on a server.
    pub async fn connect(database: &Database) -> Self {
        let url = database.url().expect("an SQLite database is a file");
        Self(PgConnection::connect(&url).await.unwrap())
    }

    /// Runs statements; the error is the server's message.
    pub async fn run(&mut self, statements: &str) -> Result<u64, String> {
        let statements = AssertSqlSafe(statements.to_owned());
        let done = sqlx::raw_sql(statements).execute(&mut self.0).await;
        done.map(|done| done.rows_affected()).map_err(|error| error.to_string())
    }

    /// The one number that a query yields.
    pub async fn number(&mut self, query: &str) -> i64 {
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut self.0).await;
        row.unwrap_or_else(|error| panic!("{query}: {error}")).get(0)
    }

    /// The texts in the first column of what a query yields.
    pub async fn texts(&mut self, query: &str) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut self.0).await;
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
        rows.iter().map(|row| row.get(0)).collect()
    }
}
