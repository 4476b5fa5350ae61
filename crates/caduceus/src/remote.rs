//! A gateway alone: enrolled once, it follows a control plane on another machine and needs no database.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use config::{DataDir, Settings};
use feed::{CallError, EnrolError, Follower, Identity};
use gateway::{CredentialKey, Gateway};
use market::Secrets;
use model::Clock;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    control::Control,
    installation::{drain, export_traces, listen, start_gateway},
    tls::ControlTls,
};

/// A running gateway that follows another machine.
pub(crate) struct RemoteGateway {
    delay: Duration,
    grace: Duration,
    gateway: Arc<Gateway>,
    control: Arc<Control>,
    tracker: TaskTracker,
    stop: CancellationToken,
    _data: DataDir,
}

const RETRY: Duration = Duration::from_secs(2);

impl RemoteGateway {
    /// Enrols the gateway if it was not, and starts it. It serves from its last state at once.
    pub(crate) async fn start(settings: Settings) -> anyhow::Result<Self> {
        let Some(address) = settings.control.feed_address() else {
            bail!("a gateway alone needs control.url, the feed of its control plane");
        };
        let data = DataDir::open(&settings.data_dir)?;
        // Not the installation's master key, which never leaves the control plane, but one of this machine.
        let secrets = Secrets::derive(&data.master_key(settings.master_key_file.as_deref())?);
        let identity_path = data.path().join("node.identity");
        let identity_key = secrets.gateway_state_key();
        let identity = match Identity::load(&identity_path, &identity_key)? {
            Some(identity) => identity,
            None => {
                let identity = enrol(&settings, &address).await?;
                identity.keep(&identity_path, &identity_key)?;
                tracing::info!(node.id = %identity.node(), "this gateway was enrolled");
                identity
            }
        };
        let tls = settings.control.tls.as_ref().map(ControlTls::load).transpose()?;
        let clock = Clock::system();
        let key = CredentialKey::new(identity.credential_key()?);
        let gateway = start_gateway(&settings, &data, &secrets, key, clock.clone())?;
        let (listener, control_address) = listen(settings.control.listen).await?;
        let follower = Follower::new(
            address,
            identity,
            identity_path,
            identity_key,
            Arc::clone(&gateway),
            data.gateway().join("usage"),
            secrets.usage_key(),
            clock.clone(),
        );
        let control = Control::of_gateway(Arc::clone(&gateway), Arc::clone(&follower), tls, clock);
        let control = Arc::new(control);
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        tracker.spawn(Arc::clone(&control).serve(listener, tracker.clone(), stop.clone()));
        export_traces(&settings, &gateway, &tracker, &stop)?;
        follower.spawn(&tracker, &stop);
        tracing::info!(
            control.address = %control_address,
            gateway.address = %gateway.local_addr(),
            "listening"
        );
        let delay = Duration::from_secs(settings.gateway.drain_delay_seconds);
        let grace = Duration::from_secs(settings.gateway.drain_seconds);
        Ok(Self { delay, grace, gateway, control, tracker, stop, _data: data })
    }

    /// Stops accepting, finishes what is in flight, ships the last usage if the control plane is there, and ends.
    pub(crate) async fn shut_down(self) -> anyhow::Result<()> {
        tracing::info!("stopping: calls in flight are finished");
        self.control.drain();
        drain(self.gateway, self.delay, self.grace).await?;
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(self.grace, self.tracker.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Tries until the control plane answers. A token that is refused is an error.
async fn enrol(settings: &Settings, address: &str) -> anyhow::Result<Identity> {
    let Some(token) = &settings.feed.token else {
        bail!("this gateway was not enrolled yet and needs feed.token, a one-time token");
    };
    let mut is_logged = false;
    loop {
        match feed::enrol(address, token.expose()).await {
            Ok(identity) => return Ok(identity),
            Err(EnrolError::Call(
                error @ (CallError::Connect { .. } | CallError::Timeout | CallError::Status(_)),
            )) if !error.is_mistrust() => {
                if !std::mem::replace(&mut is_logged, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "this gateway could not be enrolled yet; it keeps trying"
                    );
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error).context("this gateway cannot be enrolled"),
        }
    }
}
