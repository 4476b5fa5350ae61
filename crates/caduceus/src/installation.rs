//! Putting an installation together: gateway first, which needs no database, then the control plane around it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use api::ApiSettings;
use config::{DataDir, GatewayTls, Log, Settings};
use gateway::{
    AccessLogDestination, AccessLogSettings, CredentialKey, Gateway, GatewayKeys, GatewaySettings,
    TlsSettings, TracingSettings, WhenTooOld,
};
use mail::Courier;
use market::{JobSettings, Jobs, MailSettings, Market, MarketSettings, Secrets};
use model::{AccessField, AddressPolicy, Clock, Update};
use portal::{Portal, PortalSettings};
use search::CatalogueIndex;
use store::Database;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{control::Control, post, tls::ControlTls, traces::Exporter};

/// A running installation.
pub(crate) struct Installation {
    settings: Settings,
    data: Arc<DataDir>,
    secrets: Secrets,
    clock: Clock,
    /// None in the role of a control plane alone.
    gateway: Option<Arc<Gateway>>,
    control: Arc<Control>,
    control_address: SocketAddr,
    /// None where people are written no e-mail.
    courier: Option<Arc<Courier>>,
    /// Taken when the feed is served.
    feed: Mutex<Option<TcpListener>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// What an installation consists of in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Control plane and gateway.
    All,
    /// The control plane alone.
    Control,
}

/// How long the control plane waits before it tries to reach the database again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the gateway is content without news.
const PATIENCE: Duration = Duration::from_secs(10);

impl Installation {
    /// Binds all listeners and starts the gateway, which serves from its last state at once.
    pub(crate) async fn start(settings: Settings, role: Role) -> anyhow::Result<Self> {
        let data = Arc::new(DataDir::open(&settings.data_dir)?);
        let master = data.master_key(settings.master_key_file.as_deref())?;
        let secrets = Secrets::derive(&master);
        let clock = Clock::system();
        let tls = settings.control.tls.as_ref().map(ControlTls::load).transpose()?;
        let gateway = match role {
            Role::All => {
                let key = CredentialKey::new(secrets.credential_key());
                Some(start_gateway(&settings, &data, &secrets, key, clock.clone())?)
            }
            Role::Control => None,
        };
        let (listener, control_address) = listen(settings.control.listen).await?;
        let feed = match settings.feed.listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let courier = post::courier(&settings, data.node()?, clock.clone())?.map(Arc::new);
        let control = Control::new(gateway.clone(), tls, clock.clone())
            .behind(settings.control.trusted_proxies.clone());
        let control = Arc::new(control.with_courier(courier.clone()));
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        if let Some(gateway) = &gateway {
            export_traces(&settings, gateway, &tracker, &stop)?;
        }
        tracker.spawn(Arc::clone(&control).serve(listener, tracker.clone(), stop.clone()));
        tracing::info!(
            control.address = %control_address,
            gateway.address = gateway.as_ref().map(|gateway| gateway.local_addr().to_string()),
            feed.address = feed.as_ref().map(|(_, address)| address.to_string()),
            "listening"
        );
        let feed = Mutex::new(feed.map(|(listener, _)| listener));
        Ok(Self {
            settings,
            data,
            secrets,
            clock,
            gateway,
            control,
            control_address,
            courier,
            feed,
            tracker,
            stop,
        })
    }

    /// Opens the database, once. The control API answers from then on.
    pub(crate) async fn open_control_plane(&self) -> anyhow::Result<Arc<Market>> {
        let url = match &self.settings.database.url {
            Some(url) => url.expose().to_owned(),
            None => self.data.sqlite_url(),
        };
        let database = Database::open(&url).await.context("the database could not be opened")?;
        let folder = self.data.index();
        let index = tokio::task::spawn_blocking(move || CatalogueIndex::open(&folder))
            .await?
            .context("the catalogue's index could not be opened")?;
        let market = Arc::new(Market::new(
            database,
            Arc::new(index),
            self.clock.clone(),
            self.secrets.clone(),
            self.market_settings(),
        ));
        market.keep_to_master_key().await?;
        let settings = JobSettings {
            node: self.data.node()?,
            usage_folder: self.gateway.is_some().then(|| self.data.gateway().join("usage")),
        };
        let jobs = Jobs::new(Arc::clone(&market), settings);
        jobs.run_once().await?;
        jobs.spawn(&self.tracker, &self.stop);
        if let Some(courier) = &self.courier {
            courier.spawn(Arc::clone(&market), &self.tracker, &self.stop);
        }
        if let Some(gateway) = &self.gateway {
            while tell(gateway, &market).await? {}
            let (gateway, market) = (Arc::clone(gateway), Arc::clone(&market));
            self.tracker.spawn(keep_telling(gateway, market, self.stop.clone()));
        }
        let listener = self.feed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            let (tracker, stop) = (self.tracker.clone(), self.stop.clone());
            self.tracker.spawn(feed::serve(Arc::clone(&market), listener, tracker, stop));
        }
        let api_settings = ApiSettings {
            requests_per_second: self.settings.control.requests_per_second,
            specification_max_bytes: self.settings.specifications.max_bytes,
        };
        let api = api::router(Arc::clone(&market), self.clock.clone(), api_settings);
        let portal_settings = PortalSettings {
            is_secure: self.settings.control.tls.is_some()
                || self.settings.portal.is_public_over_tls(),
        };
        let portal = Portal::new(Arc::clone(&market), self.clock.clone(), portal_settings);
        self.control.open(api, portal.router(), Arc::clone(&market));
        Ok(market)
    }

    /// Opens the database, trying again until it answers or it is time to stop. The gateway serves meanwhile.
    pub(crate) async fn wait_for_control_plane(&self) -> Option<Arc<Market>> {
        let mut is_logged = false;
        loop {
            match self.open_control_plane().await {
                Ok(market) => return Some(market),
                Err(error) => {
                    if !std::mem::replace(&mut is_logged, true) {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "the control plane cannot start yet; the gateway serves its last configuration"
                        );
                    }
                }
            }
            self.stop.run_until_cancelled(tokio::time::sleep(RETRY)).await?;
        }
    }

    /// Waits until the gateway serves everything that has been committed.
    pub(crate) async fn wait_for_config(&self, market: &Market) -> anyhow::Result<()> {
        let wanted = market.config_version().await?;
        let Some(gateway) = &self.gateway else { return Ok(()) };
        while gateway.status().config_number.unwrap_or(0) < wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Where the control API is served.
    pub(crate) fn control_url(&self) -> String {
        let scheme = if self.settings.control.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.control_address)
    }

    /// Where APIs are called.
    pub(crate) fn gateway_address(&self) -> SocketAddr {
        self.gateway.as_ref().map_or(self.settings.gateway.listen, |gateway| gateway.local_addr())
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }

    /// Where tasks that end with the installation are started.
    pub(crate) const fn tasks(&self) -> (&TaskTracker, &CancellationToken) {
        (&self.tracker, &self.stop)
    }

    /// Stops accepting, finishes what is in flight, counts the last usage, and ends.
    pub(crate) async fn shut_down(self) -> anyhow::Result<()> {
        tracing::info!("stopping: calls in flight are finished");
        let settings = &self.settings.gateway;
        let grace = Duration::from_secs(settings.drain_seconds);
        self.control.drain();
        if let Some(gateway) = self.gateway.clone() {
            drain(gateway, Duration::from_secs(settings.drain_delay_seconds), grace).await?;
        }
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        tracing::info!("stopped");
        Ok(())
    }

    fn market_settings(&self) -> MarketSettings {
        let public_url = self.settings.gateway.public_url.clone();
        MarketSettings {
            addresses: AddressPolicy::allowing(self.settings.network.allowed_ranges.clone()),
            specification_hosts: self.settings.specifications.allowed_hosts.clone(),
            specification_max_bytes: self.settings.specifications.max_bytes,
            token_seconds: self.settings.control.token_seconds,
            sessions_per_person: self.settings.portal.sessions_per_person,
            gateway_url: public_url.unwrap_or_else(|| format!("http://{}", self.gateway_address())),
            mail: self
                .courier
                .is_some()
                .then_some(MailSettings { digest_hour: self.settings.notices.digest_hour }),
        }
    }
}

/// Binds a listener of the control plane.
pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr().context("the listener has no address")?;
    Ok((listener, address))
}

/// Starts the gateway, which serves from its last state at once.
pub(crate) fn start_gateway(
    settings: &Settings,
    data: &DataDir,
    secrets: &Secrets,
    credential_key: CredentialKey,
    clock: Clock,
) -> anyhow::Result<Arc<Gateway>> {
    let keys = GatewayKeys {
        credential_key,
        state_key: secrets.gateway_state_key(),
        usage_key: secrets.usage_key(),
    };
    let gateway = Gateway::start(gateway_settings(settings, data), &keys, clock)
        .context("the gateway could not start")?;
    Ok(Arc::new(gateway))
}

/// Hands the spans of traced calls to a collector, when one is configured.
pub(crate) fn export_traces(
    settings: &Settings,
    gateway: &Gateway,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let exporter = settings.tracing.as_ref().map(Exporter::new).transpose()?;
    if let (Some(exporter), Some(spans)) = (exporter, gateway.take_spans()) {
        tracker.spawn(exporter.run(spans, stop.clone()));
    }
    Ok(())
}

/// Finishes the calls in flight.
pub(crate) async fn drain(
    gateway: Arc<Gateway>,
    delay: Duration,
    grace: Duration,
) -> anyhow::Result<()> {
    // Balancers send calls here until they have seen that it is not ready any more.
    tokio::time::sleep(delay).await;
    let drained = tokio::task::spawn_blocking(move || gateway.shut_down(grace));
    drained.await.context("the gateway could not be drained")
}

/// Tells the gateway of this process what comes next; says whether there was anything.
async fn tell(gateway: &Arc<Gateway>, market: &Market) -> anyhow::Result<bool> {
    let update = market.look(&gateway.standing()).await?;
    let is_news = !update.is_empty();
    hand_over(gateway, update).await;
    Ok(is_news)
}

/// Tells the gateway of this process what is new, for as long as it runs.
async fn keep_telling(gateway: Arc<Gateway>, market: Arc<Market>, stop: CancellationToken) {
    let mut is_failing = false;
    loop {
        let standing = gateway.standing();
        let told = stop.run_until_cancelled(market.follow(&standing, PATIENCE)).await;
        match told {
            None => return,
            Some(Ok(update)) => {
                is_failing = false;
                hand_over(&gateway, update).await;
            }
            Some(Err(error)) => {
                if !std::mem::replace(&mut is_failing, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the gateway hears no news and serves what it knows");
                }
                if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// Has the gateway take an update, beside the requests of the control plane.
async fn hand_over(gateway: &Arc<Gateway>, update: Update) {
    let gateway = Arc::clone(gateway);
    let taken = tokio::task::spawn_blocking(move || gateway.take(&update)).await;
    match taken {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the gateway refused a structure and keeps the one before");
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the gateway took no update");
        }
    }
}

fn gateway_settings(settings: &Settings, data: &DataDir) -> GatewaySettings {
    let defaults = GatewaySettings::default();
    GatewaySettings {
        listen: settings.gateway.listen,
        workers: settings.gateway.workers.unwrap_or(defaults.workers),
        state_dir: data.gateway(),
        address_policy: AddressPolicy::allowing(settings.network.allowed_ranges.clone()),
        trusted_proxies: settings.gateway.trusted_proxies.clone(),
        max_connections: settings.gateway.max_connections,
        tls: settings.gateway.tls.as_ref().map(tls_settings),
        accepts_h2c: settings.gateway.h2c,
        max_validated_bytes: settings.gateway.max_validated_bytes,
        max_age: settings.feed.max_age_seconds.map(Duration::from_secs),
        when_too_old: match settings.feed.when_too_old {
            config::WhenTooOld::Serve => WhenTooOld::Serve,
            config::WhenTooOld::Refuse => WhenTooOld::Refuse,
        },
        max_route_series: settings.gateway.max_route_series,
        access_log: access_log_settings(&settings.log),
        tracing: settings.tracing.as_ref().map(|tracing| TracingSettings {
            sample_ratio: tracing.sample_ratio,
            is_parent_based: tracing.parent_based,
        }),
        ..defaults
    }
}

fn access_log_settings(log: &Log) -> Option<AccessLogSettings> {
    let destination = match log.access.as_ref()? {
        path if path.as_os_str() == "stdout" => AccessLogDestination::Stdout,
        path => AccessLogDestination::File(path.clone()),
    };
    let fields = log.access_fields.clone().unwrap_or_else(|| AccessField::ALL.to_vec());
    Some(AccessLogSettings { destination, fields })
}

fn tls_settings(tls: &GatewayTls) -> TlsSettings {
    let port = tls.public_port.unwrap_or(tls.listen.port());
    TlsSettings {
        listen: tls.listen,
        certificates: tls.certificates.clone(),
        redirect_to: tls.redirect.then_some(port),
        hsts_seconds: tls.hsts_seconds,
    }
}
