//! Carries letters to the server: takes a few that are due, tries each, and says what became of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use market::{InstallationSettings, LetterOutcome, Market, MarketError, Outgoing};
use model::Clock;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    compose::compose,
    smtp::{Connection, Server, ServerSettings, UnusableServer},
};

/// What a courier needs to know.
#[derive(Debug, Clone)]
pub struct CourierSettings {
    /// Where letters are handed in.
    pub server: ServerSettings,
    /// Where the portal is reached from outside, for links.
    pub portal_url: Option<String>,
    /// Names this process among others with the same database.
    pub holder: String,
}

/// Carries letters to the server.
pub struct Courier {
    server: Server,
    portal_url: Option<String>,
    holder: String,
    clock: Clock,
    tally: Tally,
}

/// What has become of letters, for metrics.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    deferred: AtomicU64,
    failed: AtomicU64,
    waiting: AtomicU64,
}

/// How a turn went.
enum Turn {
    /// There was nothing to do.
    Idle,
    /// There may be more to do.
    Busy,
    /// The server is of no use at present, for this reason.
    Trouble(String),
}

const TICK: Duration = Duration::from_millis(500);
/// How long to wait after trouble with the server: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LETTERS: i64 = 20;
/// What was not tried within this time comes again by itself; below the length of the lease.
const TURN: Duration = Duration::from_secs(100);

impl Courier {
    /// A courier to a server; fails when its settings cannot be used.
    pub fn new(settings: CourierSettings, clock: Clock) -> Result<Self, UnusableServer> {
        let CourierSettings { server, portal_url, holder } = settings;
        let portal_url = portal_url.map(|url| url.trim_end_matches('/').to_owned());
        let (server, tally) = (Server::new(server)?, Tally::default());
        Ok(Self { server, portal_url, holder, clock, tally })
    }

    /// Carries letters until `stop` is cancelled; the letter in hand is finished.
    pub fn spawn(
        self: &Arc<Self>,
        market: Arc<Market>,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) {
        tracker.spawn(Arc::clone(self).run(market, stop.clone()));
    }

    /// Connects and signs in, and says in words what is wrong.
    pub async fn probe(&self) -> Result<(), String> {
        match self.server.open().await {
            Ok(connection) => {
                connection.close().await;
                Ok(())
            }
            Err(outcome) => Err(outcome.reason().unwrap_or_default()),
        }
    }

    async fn run(self: Arc<Self>, market: Arc<Market>, stop: CancellationToken) {
        let (mut pause, mut is_failing, mut trouble) = (FIRST_PAUSE, false, None);
        while !stop.is_cancelled() {
            let wait = match self.turn(&market, &stop).await {
                Ok(Turn::Busy) => {
                    if trouble.take().is_some() {
                        tracing::info!("letters are sent again");
                    }
                    pause = FIRST_PAUSE;
                    Duration::ZERO
                }
                Ok(Turn::Idle) => {
                    is_failing = false;
                    TICK
                }
                Ok(Turn::Trouble(reason)) => {
                    if trouble.as_ref() != Some(&reason) {
                        tracing::warn!(reason, "letters cannot be sent; they wait");
                        trouble = Some(reason);
                    }
                    let now = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    now
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "letters cannot be taken; they wait");
                    }
                    pause
                }
            };
            stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }

    async fn turn(&self, market: &Market, stop: &CancellationToken) -> Result<Turn, MarketError> {
        let queue = market.look_at_letters().await?;
        self.tally.waiting.store(queue.waiting, Ordering::Relaxed);
        if queue.due == 0 {
            return Ok(Turn::Idle);
        }
        let letters = market.take_letters(&self.holder, LETTERS).await?;
        if letters.is_empty() {
            return Ok(Turn::Idle);
        }
        let installation = market.installation().await?;
        let until = Instant::now() + TURN;
        let (mut connection, mut broken) = (None, 0);
        for (index, letter) in letters.iter().enumerate() {
            if stop.is_cancelled() || Instant::now() >= until {
                break;
            }
            if connection.is_none() {
                match stop.run_until_cancelled(self.server.open()).await {
                    None => break,
                    Some(Ok(opened)) => connection = Some(opened),
                    Some(Err(outcome)) => {
                        return self.put_off(market, letters.iter().skip(index), outcome).await;
                    }
                }
            }
            let Some(opened) = &mut connection else { break };
            let (outcome, is_usable) = self.carry(opened, letter, &installation).await;
            self.settle(market, letter, outcome).await?;
            if is_usable {
                broken = 0;
                continue;
            }
            // One letter may be what a server stumbles over; two in a row are the server's own trouble.
            (connection, broken) = (None, broken + 1);
            if broken == 2 {
                let outcome = LetterOutcome::Deferred(
                    "the mail server fails one letter after another",
                    outcome.code(),
                );
                return self.put_off(market, letters.iter().skip(index + 1), outcome).await;
            }
        }
        if let Some(connection) = connection {
            connection.close().await;
        }
        Ok(Turn::Busy)
    }

    async fn carry(
        &self,
        connection: &mut Connection,
        letter: &Outgoing,
        installation: &InstallationSettings,
    ) -> (LetterOutcome, bool) {
        let (portal, now) = (self.portal_url.as_deref(), self.clock.now());
        match compose(letter, &self.server.from, installation, portal, now) {
            Ok(message) => {
                let handed = connection.hand_over(&message).await;
                (handed.outcome, handed.is_usable)
            }
            Err(_) => (LetterOutcome::Refused("the address cannot be used for e-mail", None), true),
        }
    }

    /// Puts letters off, because the server is of no use.
    async fn put_off(
        &self,
        market: &Market,
        letters: impl Iterator<Item = &Outgoing>,
        outcome: LetterOutcome,
    ) -> Result<Turn, MarketError> {
        for letter in letters {
            self.settle(market, letter, outcome).await?;
        }
        Ok(Turn::Trouble(outcome.reason().unwrap_or_default()))
    }

    async fn settle(
        &self,
        market: &Market,
        letter: &Outgoing,
        outcome: LetterOutcome,
    ) -> Result<(), MarketError> {
        let is_given_up = market.settle_letter(letter, outcome).await?;
        let counter = match outcome {
            LetterOutcome::Sent => &self.tally.sent,
            _ if is_given_up => &self.tally.failed,
            LetterOutcome::Refused(..) | LetterOutcome::Deferred(..) => &self.tally.deferred,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if is_given_up {
            let (id, reason) = (letter.letter.id, outcome.reason().unwrap_or_default());
            tracing::warn!(letter.id = %id, reason, "a letter was given up");
        }
        Ok(())
    }

    /// Adds metrics to a text in the OpenMetrics format.
    pub fn encode_metrics(&self, out: &mut String) {
        let whole = out.trim_end().strip_suffix("# EOF").map(str::to_owned);
        let mut text = whole.unwrap_or_else(|| out.clone());
        let Tally { sent, deferred, failed, waiting } = &self.tally;
        for (name, help, counter) in [
            ("sent", "Letters that the mail server took.", sent),
            ("deferred", "Attempts at letters that will be tried again.", deferred),
            ("failed", "Letters that were given up.", failed),
        ] {
            let value = counter.load(Ordering::Relaxed);
            text.push_str(&format!(
                "# HELP caduceus_letters_{name} {help}\n# TYPE caduceus_letters_{name} counter\n\
                 caduceus_letters_{name}_total {value}\n"
            ));
        }
        let waiting = waiting.load(Ordering::Relaxed);
        text.push_str(&format!(
            "# HELP caduceus_letters_waiting Letters that are to be sent.\n\
             # TYPE caduceus_letters_waiting gauge\ncaduceus_letters_waiting {waiting}\n# EOF\n"
        ));
        *out = text;
    }
}
