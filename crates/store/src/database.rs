//! Connections and transactions.

use std::{sync::Once, time::Duration};

use sqlx::{
    Any, AnyPool, Row,
    any::{AnyArguments, AnyPoolOptions, AnyRow},
    query::Query,
};

use crate::{
    Engine, StoreError, Viewer,
    event::{self, PendingEvent},
    migration,
    roster::{self, Pending},
    row_security,
};

/// The database of an installation.
#[derive(Debug, Clone)]
pub struct Database {
    engine: Engine,
    /// By who writes and reads, where connections differ in that.
    tenants: Pools,
    installation: Pools,
}

#[derive(Debug, Clone)]
struct Pools {
    writers: AnyPool,
    readers: AnyPool,
}

/// A transaction, in which one viewer reads and writes. Dropping it takes everything back.
///
/// Statements hide what the viewer may not see. On PostgreSQL the database does so as well, whatever a statement says: see
/// `row_security`.
pub struct Tx {
    inner: sqlx::Transaction<'static, Any>,
    engine: Engine,
    events: Vec<PendingEvent>,
    roster: Pending,
}

/// A statement with its arguments, about to run inside a transaction.
pub(crate) struct Statement<'tx> {
    tx: &'tx mut Tx,
    operation: &'static str,
    query: Query<'static, Any, AnyArguments>,
}

/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(3);
const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 12;

impl Database {
    /// Opens the database at `url` and brings its schema up to date.
    ///
    /// Fails when the URL is of no known engine, the database cannot be reached, or its schema is newer than this
    /// version knows.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let fail = StoreError::sql("database::open");
        let Some(engine) = Engine::of_url(url) else {
            return Err(fail(sqlx::Error::Configuration(
                "the database URL must begin with sqlite: or postgres:".into(),
            )));
        };
        migration::run(engine, url).await?;
        let (tenants, installation) = match engine {
            // SQLite has one writer at a time; waiting for it in the pool is fair, in the engine it is not.
            Engine::Sqlite => {
                let writers = pool(engine, 1, &[]).connect(url).await.map_err(fail)?;
                let readers = pool(engine, SQLITE_READERS, &[])
                    .connect(url)
                    .await
                    .map_err(StoreError::sql("database::open"))?;
                let all = Pools { writers, readers };
                (all.clone(), all)
            }
            Engine::Postgres => {
                let shared = async |role: &'static [&'static str]| {
                    let pool = pool(engine, POSTGRES_CONNECTIONS, role).connect(url).await;
                    let writers = pool.map_err(StoreError::sql("database::open"))?;
                    Ok::<_, StoreError>(Pools { readers: writers.clone(), writers })
                };
                let tenants = shared(&[row_security::APPLICATION]).await?;
                (tenants, shared(&[row_security::INSTALLATION]).await?)
            }
        };
        Ok(Self { engine, tenants, installation })
    }

    /// The connections of a viewer.
    const fn pools(&self, viewer: Viewer) -> &Pools {
        match viewer {
            Viewer::Tenant(_) => &self.tenants,
            Viewer::Installation => &self.installation,
        }
    }

    /// Which engine it is.
    pub const fn engine(&self) -> Engine {
        self.engine
    }

    /// Begins a transaction in which the viewer writes.
    pub async fn begin(&self, viewer: Viewer) -> Result<Tx, StoreError> {
        let begin = self.engine.begin_write(viewer);
        let inner = self.pools(viewer).writers.begin_with(begin).await;
        Ok(Tx::new(inner.map_err(StoreError::sql("database::begin"))?, self.engine))
    }

    /// Begins a transaction in which the viewer only reads.
    pub async fn read(&self, viewer: Viewer) -> Result<Tx, StoreError> {
        let begin = self.engine.begin_read(viewer);
        let inner = self.pools(viewer).readers.begin_with(begin).await;
        Ok(Tx::new(inner.map_err(StoreError::sql("database::read"))?, self.engine))
    }

    /// Begins a transaction in which the viewer only reads, and all of whose statements see one state.
    pub async fn read_steady(&self, viewer: Viewer) -> Result<Tx, StoreError> {
        let begin = self.engine.begin_read_steady(viewer);
        let inner = self.pools(viewer).readers.begin_with(begin).await;
        Ok(Tx::new(inner.map_err(StoreError::sql("database::read_steady"))?, self.engine))
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for pools in [&self.tenants, &self.installation] {
            pools.writers.close().await;
            pools.readers.close().await;
        }
    }
}

/// Connections that begin with these statements, as the user of the URL.
pub(crate) fn pool(
    engine: Engine,
    connections: u32,
    then: &'static [&'static str],
) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(Duration::from_secs(120))
        .after_connect(move |connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(engine.on_connect()).execute(&mut *connection).await?;
                for statement in then {
                    sqlx::raw_sql(*statement).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
}

impl Tx {
    pub(crate) const fn new(inner: sqlx::Transaction<'static, Any>, engine: Engine) -> Self {
        Self { inner, engine, events: Vec::new(), roster: Pending::new() }
    }

    /// From here on the transaction reads and writes as another viewer.
    pub async fn view_as(&mut self, viewer: Viewer) -> Result<(), StoreError> {
        if let Some(statement) = self.engine.view_as(viewer) {
            self.run_script("tx::view_as", statement).await?;
        }
        Ok(())
    }

    /// Makes everything that was done in the transaction lasting.
    ///
    /// Events and what is done to the roster are numbered, and the installation's; they are written last, because whoever
    /// waits for the numbers holds all rows of the transaction.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let (events, roster) = (std::mem::take(&mut self.events), std::mem::take(&mut self.roster));
        if !events.is_empty() || !roster.is_empty() {
            if let Some(lock) = self.engine.lock_numbers() {
                self.run_script("tx::lock_numbers", lock.to_owned()).await?;
            }
            event::flush(&mut self, events).await?;
            roster::flush(&mut self, roster).await?;
        }
        self.inner.commit().await.map_err(StoreError::sql("tx::commit"))
    }

    /// Takes everything back.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.inner.rollback().await.map_err(StoreError::sql("tx::rollback"))
    }

    pub(crate) const fn engine(&self) -> Engine {
        self.engine
    }

    /// The events that the transaction announces.
    pub(crate) const fn events(&mut self) -> &mut Vec<PendingEvent> {
        &mut self.events
    }

    /// What the transaction does to the roster.
    pub(crate) const fn pending(&mut self) -> &mut Pending {
        &mut self.roster
    }

    pub(crate) fn statement(
        &mut self,
        operation: &'static str,
        sql: impl sqlx::SqlSafeStr,
    ) -> Statement<'_> {
        Statement { query: sqlx::query(sql), tx: self, operation }
    }

    pub(crate) async fn run_script(
        &mut self,
        operation: &'static str,
        sql: String,
    ) -> Result<(), StoreError> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut *self.inner)
            .await
            .map_err(StoreError::sql(operation))?;
        Ok(())
    }
}

impl Statement<'_> {
    pub(crate) fn bind<T>(mut self, value: T) -> Self
    where
        T: sqlx::Encode<'static, Any> + sqlx::Type<Any> + Send + 'static,
    {
        self.query = self.query.bind(value);
        self
    }

    /// Binds the text of an identifier, or of anything else that has one.
    pub(crate) fn bind_text(self, value: impl std::fmt::Display) -> Self {
        self.bind(value.to_string())
    }

    /// Binds the text of something that may be absent.
    pub(crate) fn bind_text_opt(self, value: Option<impl std::fmt::Display>) -> Self {
        self.bind(value.map(|value| value.to_string()))
    }

    /// Runs the statement and tells how many rows it touched.
    pub(crate) async fn execute(self) -> Result<u64, StoreError> {
        let result = self
            .query
            .execute(&mut *self.tx.inner)
            .await
            .map_err(StoreError::sql(self.operation))?;
        Ok(result.rows_affected())
    }

    /// Runs an update that names the revision it was made for; fails when no row has it any more.
    pub(crate) async fn execute_current(self) -> Result<(), StoreError> {
        let operation = self.operation;
        match self.execute().await? {
            0 => Err(StoreError::Stale { operation }),
            _ => Ok(()),
        }
    }

    pub(crate) async fn optional(self) -> Result<Option<AnyRow>, StoreError> {
        self.query
            .fetch_optional(&mut *self.tx.inner)
            .await
            .map_err(StoreError::sql(self.operation))
    }

    pub(crate) async fn all(self) -> Result<Vec<AnyRow>, StoreError> {
        self.query.fetch_all(&mut *self.tx.inner).await.map_err(StoreError::sql(self.operation))
    }

    /// Runs a query that yields one number; an absent or null one reads as zero.
    pub(crate) async fn number(self) -> Result<i64, StoreError> {
        let operation = self.operation;
        let row = self.optional().await?;
        row.map_or(Ok(0), |row| {
            let number: Option<i64> = row.try_get(0).map_err(StoreError::sql(operation))?;
            Ok(number.unwrap_or(0))
        })
    }
}
