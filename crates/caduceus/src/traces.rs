//! Sends spans of the gateway to a collector (OTLP over HTTP, in JSON).
//!
//! Spans wait in the gateway's bounded channel; when the collector is away for longer than that lasts, they are dropped
//! and counted. No call ever waits for it.

mod otlp;

use std::time::Duration;

use anyhow::Context;
use config::Tracing;
use gateway::{Span, Spans};
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// The most spans sent at once, and how long they are waited for.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is sent, and the pauses between: each twice as long as the one before.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the last spans may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Sends spans to a collector.
pub(crate) struct Exporter {
    client: Client,
    endpoint: String,
}

/// Why a batch was not taken.
enum Refusal {
    /// It may be taken later, and not before this long.
    ForNow(Option<Duration>),
    Forever,
}

impl Exporter {
    /// Fails when the settings name headers that cannot be sent.
    pub(crate) fn new(settings: &Tracing) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.headers {
            let unusable = || format!("the header {name:?} of tracing.headers cannot be sent");
            let name = HeaderName::from_bytes(name.as_bytes()).with_context(unusable)?;
            let mut value = HeaderValue::from_str(value.expose()).with_context(unusable)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .context("the client for traces could not be made")?;
        Ok(Self { client, endpoint: settings.endpoint.clone() })
    }

    /// Sends what comes until it is time to stop, and then what is left.
    pub(crate) async fn run(self, mut spans: Spans, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut is_failing = false;
        while gather(&mut spans, &mut batch, &stop).await {
            let sent = stop.run_until_cancelled(self.send(&batch)).await;
            let Some(is_taken) = sent else { break };
            count(&spans, &batch, is_taken);
            batch.clear();
            if is_taken == is_failing {
                is_failing = !is_taken;
                if is_failing {
                    tracing::error!("the collector takes no traces; they are dropped meanwhile");
                } else {
                    tracing::info!("the collector takes traces again");
                }
            }
        }
        self.send_last(spans, batch).await;
    }

    async fn send_last(&self, mut spans: Spans, mut batch: Vec<Span>) {
        let end = Instant::now() + LAST_SPANS;
        loop {
            while batch.len() < BATCH
                && let Some(span) = spans.try_receive()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let is_taken = matches!(timeout_at(end, self.post(&batch)).await, Ok(Ok(())));
            count(&spans, &batch, is_taken);
            batch.clear();
        }
    }

    /// Sends a batch, again while the collector says that it may take it later.
    async fn send(&self, batch: &[Span]) -> bool {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            match self.post(batch).await {
                Ok(()) => return true,
                Err(Refusal::Forever) => return false,
                Err(Refusal::ForNow(_)) if attempt == ATTEMPTS => return false,
                Err(Refusal::ForNow(wanted)) => {
                    sleep(wanted.unwrap_or(pause).clamp(pause, LONGEST_PAUSE)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        false
    }

    async fn post(&self, batch: &[Span]) -> Result<(), Refusal> {
        let body = otlp::encode(batch).map_err(|_unencodable| Refusal::Forever)?;
        let request = self.client.post(&self.endpoint).body(body);
        // A collector that cannot be reached may come back.
        let answer = request.send().await.map_err(|_unreachable| Refusal::ForNow(None))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let wanted = answer.headers().get(RETRY_AFTER);
                let seconds = wanted.and_then(|wanted| wanted.to_str().ok()?.parse().ok());
                Err(Refusal::ForNow(seconds.map(Duration::from_secs)))
            }
            _ => Err(Refusal::Forever),
        }
    }
}

/// Gathers a batch; false when it is time to stop.
async fn gather(spans: &mut Spans, batch: &mut Vec<Span>, stop: &CancellationToken) -> bool {
    match stop.run_until_cancelled(spans.receive(batch, BATCH)).await {
        None | Some(0) => return false,
        Some(_) => {}
    }
    let more = async {
        while batch.len() < BATCH && spans.receive(batch, BATCH - batch.len()).await > 0 {}
    };
    // A batch that is not full goes as it is.
    let _ = stop.run_until_cancelled(timeout(GATHER, more)).await;
    true
}

fn count(spans: &Spans, batch: &[Span], is_taken: bool) {
    let number = u64::try_from(batch.len()).unwrap_or(0);
    if is_taken { spans.count_exported(number) } else { spans.count_lost(number) }
}
