//! A gateway on another machine follows the control plane: it is told what is new, ships what it counted, and renews
//! its certificate. While the control plane is away it keeps trying, and serves what it knows.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use gateway::Gateway;
use journal::{Key, Position};
use market::UsageBatch;
use model::{Clock, NodeId, Update};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{self, CallError},
    enrol::{EnrolError, Identity},
    wire::{FOLLOW, FollowRequest, USAGE, UsageAnswer, write_batch},
};

const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);
const USAGE_TICK: Duration = Duration::from_secs(1);
const RENEWAL_TICK: Duration = Duration::from_secs(600);
const BATCH_BYTES: usize = 512 << 10;

/// Follows the control plane for one gateway.
pub struct Follower {
    address: String,
    identity: ArcSwap<Identity>,
    identity_path: PathBuf,
    identity_key: Key,
    gateway: Arc<Gateway>,
    usage_folder: PathBuf,
    usage_key: Key,
    clock: Clock,
    state: Mutex<FeedState>,
}

/// How the link to the control plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// Not reached yet.
    Connecting,
    /// The last request was answered.
    Connected,
    /// The last request failed.
    Away,
    /// The control plane does not accept this gateway.
    Refused,
}

impl FeedState {
    /// The name that operators see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Away => "away",
            Self::Refused => "refused",
        }
    }
}

/// Why usage could not be shipped.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error("the usage folder cannot be read")]
    Folder(#[from] io::Error),
    #[error("a usage journal cannot be read")]
    Journal(#[from] journal::JournalError),
    #[error("usage cannot be shipped")]
    Call(#[from] CallError),
    #[error("usage cannot be shipped")]
    Identity(#[from] EnrolError),
    #[error("reading usage failed")]
    Task(#[from] tokio::task::JoinError),
}

impl Follower {
    /// A follower of the control plane whose feed is at `address`. Usage is read from `usage_folder`.
    #[expect(clippy::too_many_arguments, reason = "each is one thing of this machine")]
    pub fn new(
        address: String,
        identity: Identity,
        identity_path: PathBuf,
        identity_key: Key,
        gateway: Arc<Gateway>,
        usage_folder: PathBuf,
        usage_key: Key,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            address,
            identity: ArcSwap::from_pointee(identity),
            identity_path,
            identity_key,
            gateway,
            usage_folder,
            usage_key,
            clock,
            state: Mutex::new(FeedState::Connecting),
        })
    }

    /// How the link is.
    pub fn state(&self) -> FeedState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gateway's name in the control plane.
    pub fn node(&self) -> NodeId {
        self.identity.load().node()
    }

    /// Puts the state of the link into metrics, before the end that OpenMetrics asks for.
    pub fn encode_metrics(&self, out: &mut String) {
        let is_connected = u8::from(self.state() == FeedState::Connected);
        let expires_at = self.identity.load().expires_at().as_second();
        let whole = out.trim_end().strip_suffix("# EOF").map(str::to_owned);
        let mut text = whole.unwrap_or_else(|| out.clone());
        text.push_str("# HELP caduceus_feed_connected Whether the control plane answers.\n");
        text.push_str("# TYPE caduceus_feed_connected gauge\n");
        text.push_str(&format!("caduceus_feed_connected {is_connected}\n"));
        text.push_str(
            "# HELP caduceus_feed_certificate_expiry_seconds When the certificate ends.\n",
        );
        text.push_str("# TYPE caduceus_feed_certificate_expiry_seconds gauge\n");
        text.push_str("# UNIT caduceus_feed_certificate_expiry_seconds seconds\n");
        text.push_str(&format!("caduceus_feed_certificate_expiry_seconds {expires_at}\n# EOF\n"));
        *out = text;
    }

    /// Starts following; ends when `stop` is cancelled, after the last usage was offered once more.
    pub fn spawn(self: &Arc<Self>, tracker: &TaskTracker, stop: &CancellationToken) {
        tracker.spawn(Arc::clone(self).follow(stop.clone()));
        tracker.spawn(Arc::clone(self).ship(stop.clone()));
        tracker.spawn(Arc::clone(self).renew(stop.clone()));
    }

    async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = RETRY;
        while let Some(told) = stop.run_until_cancelled(self.ask()).await {
            match told {
                Ok(update) => {
                    self.note(FeedState::Connected, None);
                    pause = RETRY;
                    self.hand_over(update).await;
                }
                Err(error) => {
                    let state = match &error {
                        EnrolError::Call(CallError::Refused) => FeedState::Refused,
                        _ => FeedState::Away,
                    };
                    self.note(state, Some(&error));
                    if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        return;
                    }
                    pause = (2 * pause).min(RETRY_MAX);
                }
            }
        }
    }

    /// Asks what is new.
    async fn ask(&self) -> Result<Update, EnrolError> {
        let request = FollowRequest {
            standing: self.gateway.standing(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let request = client::to_json(&request)?;
        let answer = self.identity.load().line(&self.address)?.post(FOLLOW, request).await?;
        let update = tokio::task::spawn_blocking(move || Update::from_bytes(&answer)).await;
        match update {
            Ok(Ok(update)) => Ok(update),
            Ok(Err(error)) => Err(CallError::Form(error.into()).into()),
            Err(error) => Err(CallError::Form(error.into()).into()),
        }
    }

    async fn hand_over(&self, update: Update) {
        let gateway = Arc::clone(&self.gateway);
        let taken = tokio::task::spawn_blocking(move || gateway.take(&update)).await;
        if let Ok(Err(error)) = taken {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the gateway refused a structure and keeps the one before");
        }
    }

    /// Logs when the link comes and goes, not in between.
    fn note(&self, state: FeedState, error: Option<&(dyn std::error::Error + 'static)>) {
        let before = std::mem::replace(
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            state,
        );
        if before == state {
            return;
        }
        match state {
            FeedState::Connected => tracing::info!("the control plane answers"),
            FeedState::Connecting | FeedState::Away => {
                tracing::warn!(error, "the control plane is away; the gateway serves what it knows")
            }
            FeedState::Refused => tracing::error!(
                error,
                "the control plane does not accept this gateway; it hears no more news"
            ),
        }
    }

    async fn ship(self: Arc<Self>, stop: CancellationToken) {
        let mut is_failing = false;
        loop {
            // Once more after the last call has ended.
            let is_last = stop.is_cancelled();
            match self.ship_all().await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "usage is kept on this machine until it can be shipped"
                        );
                    }
                }
            }
            if is_last {
                return;
            }
            stop.run_until_cancelled(sleep(USAGE_TICK)).await;
        }
    }

    async fn ship_all(&self) -> Result<(), ShipError> {
        for (journal, folder) in journals(&self.usage_folder)? {
            // Where to begin is known to the control plane alone, which answers a wrong place with the right one.
            let mut place = self.offer(journal, Position::default(), Vec::new(), None).await?;
            loop {
                let (path, key) = (folder.clone(), self.usage_key.clone());
                let batch = tokio::task::spawn_blocking(move || {
                    journal::read(&path, &key, place, BATCH_BYTES)
                })
                .await??;
                if batch.next == place {
                    break;
                }
                let records = batch.records().map(<[u8]>::to_vec).collect();
                place = self.offer(journal, place, records, Some(batch.next)).await?;
            }
            journal::prune(&folder, place)?;
        }
        Ok(())
    }

    /// Offers records from one place to another; answers up to where the control plane has counted.
    async fn offer(
        &self,
        journal: u32,
        from: Position,
        records: Vec<Vec<u8>>,
        next: Option<Position>,
    ) -> Result<Position, ShipError> {
        let next = next.unwrap_or(from);
        let batch = write_batch(&UsageBatch { journal, from, next, records });
        let answer = self.identity.load().line(&self.address)?.post(USAGE, batch).await?;
        let UsageAnswer { segment, offset } = client::json(&answer)?;
        Ok(Position { segment, offset })
    }

    async fn renew(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let identity = self.identity.load_full();
            if identity.is_due(self.clock.now()) {
                match self.renew_once(&identity).await {
                    Ok(()) => tracing::info!("the certificate of this gateway was renewed"),
                    Err(error) => {
                        let expires_at = identity.expires_at();
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, %expires_at, "the certificate could not be renewed yet");
                    }
                }
            }
            if stop.run_until_cancelled(sleep(RENEWAL_TICK)).await.is_none() {
                return;
            }
        }
    }

    /// The new identity is kept before it is used, and the old one is good until then.
    async fn renew_once(&self, identity: &Identity) -> Result<(), EnrolError> {
        let renewed = identity.renewed(&self.address).await?;
        renewed.keep(&self.identity_path, &self.identity_key)?;
        self.identity.store(Arc::new(renewed));
        Ok(())
    }
}

/// The journals of the gateway's workers, by number.
fn journals(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).map(str::parse);
        if let Some(Ok(number)) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}
