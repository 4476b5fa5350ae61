//! The pool behind a deployment: which target takes a call, and whether any call is taken at all.
//!
//! Everything here is atomics that all workers share; a lock is taken only to eject a target.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderName;
use model::{ApplicationId, Balance, HealthCheck};

use super::{
    Target,
    adaptive::Adaptive,
    breaker::{Breaker, BreakerSettings, Change, Outcome, Pass},
    endpoint::Endpoints,
    spread::{self, mix},
    target::Sparing,
    window::Window,
};
use crate::{
    fields::Fields,
    metrics::{DeploymentMetrics, Shed},
};

/// How often a target is drawn before all are looked through.
const DRAWS: u64 = 16;
/// How far above its share of the calls in flight consistent hashing lets a target go, in percent.
const BOUND_PERCENT: u64 = 125;

/// The pool behind a deployment.
pub(crate) struct Upstream {
    pub(crate) targets: Vec<Arc<Target>>,
    weights: Vec<u16>,
    /// Places of targets in the order in which they take calls; each stands in it as often as its weight says.
    turns: Vec<u16>,
    balance: Balance,
    hash_on: HashOn,
    pub(crate) timeout: Duration,
    /// Nanoseconds that one attempt may take; `u64::MAX` for as long as the whole call.
    pub(crate) per_try: u64,
    pub(crate) retries: u8,
    pub(crate) retry_gateway_errors: bool,
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) max_connections: u32,
    budget_percent: u64,
    budget_floor: u64,
    sparing: Sparing,
    ejected_percent: usize,
    panic_percent: usize,
    breaker: BreakerSettings,
    max_concurrent: u32,
    is_adaptive: bool,
    /// Whether calls are counted by target.
    counts_targets: bool,
    state: Arc<State>,
    metrics: Arc<DeploymentMetrics>,
}

/// What a pool has learnt. It outlives snapshots. What each call changes comes first, within two cache lines.
#[derive(Default)]
#[repr(C, align(64))]
struct State {
    next: AtomicU64,
    in_flight: AtomicU32,
    breaker: Breaker,
    retries: Window,
    adaptive: Adaptive,
    ejecting: Mutex<()>,
}

/// What calls that belong together have in common.
enum HashOn {
    Nothing,
    Application,
    Address,
    Header(HeaderName),
}

/// The place of a call in its pool, to be given back with [`Upstream::leave`].
#[derive(Debug)]
pub(crate) struct Place {
    pass: Pass,
    target: Option<u16>,
    pub(crate) outcome: Outcome,
}

/// The targets that a call has been to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tried(u64);

/// Why a call is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many calls have failed.
    Open { retry_after: Duration },
    /// Too many calls are on their way.
    Full,
}

/// Why no target can take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoneHealthy;

impl Upstream {
    /// Prepares a pool; targets that `previous` already knew stay what they are. `None` when an address cannot
    /// stand in a header.
    pub(crate) fn compile(
        upstream: &model::Upstream,
        previous: Option<&Self>,
        metrics: &Arc<DeploymentMetrics>,
        endpoints: &mut Endpoints,
    ) -> Option<Self> {
        let resilience = &upstream.resilience;
        let mut targets = Vec::with_capacity(upstream.targets.len());
        for entry in &upstream.targets {
            let endpoint = endpoints.at(&entry.url, upstream.protocol, &upstream.tls);
            let known = previous.iter().flat_map(|upstream| &upstream.targets).find(|target| {
                target.id == entry.id
                    && target.url == entry.url
                    && Arc::ptr_eq(&target.endpoint, &endpoint)
            });
            let target = match known {
                Some(target) => Arc::clone(target),
                None => Arc::new(Target::new(entry, metrics, endpoint)?),
            };
            if upstream.health_check.is_none() {
                target.is_unchecked();
            }
            targets.push(target);
        }
        let weights: Vec<u16> = upstream.targets.iter().map(|target| target.weight).collect();
        let turns = spread::lay_out(&weights).filter_map(|at| u16::try_from(at).ok()).collect();
        let ejection = resilience.ejection;
        Some(Self {
            targets,
            weights,
            turns,
            balance: upstream.balance,
            hash_on: HashOn::compile(upstream),
            timeout: Duration::from_millis(u64::from(upstream.timeout_ms.max(1))),
            per_try: resilience.per_try_timeout_seconds.map_or(u64::MAX, model::Seconds::nanos),
            retries: upstream.retries,
            retry_gateway_errors: resilience.retry_gateway_errors,
            health_check: upstream.health_check.clone(),
            max_connections: resilience.max_connections.unwrap_or(u32::MAX),
            budget_percent: resilience.retry_budget.percent.into(),
            budget_floor: u64::from(resilience.retry_budget.min_per_second)
                * u64::from(resilience.breaker.window_seconds.millis())
                / 1_000,
            sparing: Sparing {
                after: ejection.consecutive_failures.into(),
                first: ejection.base_seconds.nanos(),
                longest: ejection.max_seconds.nanos(),
                slow_start: resilience.slow_start_seconds.nanos(),
            },
            ejected_percent: ejection.max_percent.into(),
            panic_percent: resilience.panic_percent.into(),
            breaker: BreakerSettings::from(&resilience.breaker),
            max_concurrent: resilience.max_concurrent.unwrap_or(u32::MAX),
            is_adaptive: resilience.adaptive_concurrency,
            counts_targets: matches!(
                upstream.balance,
                Balance::LeastRequests | Balance::ConsistentHash
            ),
            state: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.state)),
            metrics: Arc::clone(metrics),
        })
    }

    /// The targets that take new calls, with their places.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = (usize, &Arc<Target>)> {
        let weighted = self.targets.iter().zip(&self.weights).enumerate();
        weighted.filter(|(_, (_, weight))| **weight > 0).map(|(at, (target, _))| (at, target))
    }

    /// Whether there is a target that the call has not been to and that is well.
    pub(crate) fn has_another(&self, tried: Tried, now: u64) -> bool {
        let mut others = self.in_use().filter(|(at, _)| !tried.contains(*at));
        others.any(|(_, target)| target.is_well(now))
    }

    /// What a call has in common with others that are to go to the same target.
    pub(crate) fn key(
        &self,
        fields: &Fields,
        application: ApplicationId,
        address: impl FnOnce() -> IpAddr,
    ) -> Option<u64> {
        match &self.hash_on {
            HashOn::Nothing => None,
            HashOn::Application => Some(spread::hash(&application.bits().to_be_bytes())),
            HashOn::Address => Some(match address() {
                IpAddr::V4(address) => spread::hash(&address.octets()),
                IpAddr::V6(address) => spread::hash(&address.octets()),
            }),
            HashOn::Header(name) => fields.named(name.as_str()).next().map(spread::hash),
        }
    }

    /// Takes a call in, or refuses it at once.
    pub(crate) fn enter(&self, now: u64) -> Result<Place, Refusal> {
        let pass = self.state.breaker.pass(&self.breaker, now).map_err(|retry_after| {
            self.metrics.count_shed(Shed::Breaker);
            Refusal::Open { retry_after }
        })?;
        let in_flight = self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Place { pass, target: None, outcome: Outcome::Unknown };
        let shed = if in_flight >= self.max_concurrent {
            Shed::Concurrency
        } else if self.is_adaptive && in_flight >= self.state.adaptive.limit() {
            Shed::Adaptive
        } else {
            return Ok(place);
        };
        self.metrics.count_shed(shed);
        self.leave(&place, now);
        Err(Refusal::Full)
    }

    /// Takes note that a call has ended.
    pub(crate) fn leave(&self, place: &Place, now: u64) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.leave_target(place.target);
        match self.state.breaker.settle(&self.breaker, place.pass, place.outcome, now) {
            None => {}
            Some(Change::Opened) => {
                self.metrics.breaker_open.set(1);
                tracing::warn!(
                    deployment.id = %self.metrics.id,
                    "too many calls failed; calls are refused for a while"
                );
            }
            Some(Change::Closed) => {
                self.metrics.breaker_open.set(0);
                tracing::info!(deployment.id = %self.metrics.id, "calls are taken again");
            }
        }
    }

    fn leave_target(&self, at: Option<u16>) {
        let target = at.and_then(|at| self.targets.get(usize::from(at)));
        if let Some(target) = target.filter(|_| self.counts_targets) {
            target.leave();
        }
    }

    /// The target for a call, passing over those that are not well and those that were tried.
    ///
    /// When failing calls, rather than checks, speak against all targets, one of them is tried all the same.
    pub(crate) fn choose(
        &self,
        tried: Tried,
        key: Option<u64>,
        place: &mut Place,
        now: u64,
    ) -> Result<&Arc<Target>, NoneHealthy> {
        self.leave_target(place.target.take());
        let at = self.pick(tried, key, now).ok_or(NoneHealthy)?;
        let target = self.targets.get(usize::from(at)).ok_or(NoneHealthy)?;
        if self.counts_targets {
            target.enter();
        }
        place.target = Some(at);
        Ok(target)
    }

    fn pick(&self, tried: Tried, key: Option<u64>, now: u64) -> Option<u16> {
        let chance = mix(self.state.next.load(Ordering::Relaxed) ^ now);
        if self.panic_percent > 0 && self.is_panicking(now) {
            return self.draw(tried, None, chance, &|_target: &Target| true);
        }
        let slow = self.sparing.slow_start;
        let well = |target: &Target| target.is_well(now);
        match key {
            Some(_) => self.draw(tried, key, chance, &well),
            None => self
                .draw(tried, None, chance, &|target: &Target| {
                    well(target) && target.is_up_to_it(slow, chance, now)
                })
                .or_else(|| self.look_through(tried, chance, &well)),
        }
        .or_else(|| self.look_through(tried, chance, &|target: &Target| !target.is_down()))
        .or_else(|| self.look_through(Tried::default(), chance, &|target| !target.is_down()))
    }

    /// A target that fits, by the pool's way of balancing.
    fn draw(
        &self,
        tried: Tried,
        key: Option<u64>,
        chance: u64,
        fits: &impl Fn(&Target) -> bool,
    ) -> Option<u16> {
        let takes = |at: u16| {
            let target = self.targets.get(usize::from(at))?;
            (!tried.contains(at.into()) && fits(target)).then_some(at)
        };
        let by_chance = |draw: u64| takes(self.turn(mix(chance ^ draw))?);
        let drawn = match (self.balance, key) {
            (Balance::RoundRobin, _) => (0..DRAWS)
                .find_map(|_| takes(self.turn(self.state.next.fetch_add(1, Ordering::Relaxed))?)),
            (Balance::ConsistentHash, Some(key)) => return self.by_hash(key, &takes),
            (Balance::Random | Balance::ConsistentHash, _) => {
                self.state.next.fetch_add(1, Ordering::Relaxed);
                (0..DRAWS).find_map(by_chance)
            }
            (Balance::LeastRequests, _) => {
                self.state.next.fetch_add(1, Ordering::Relaxed);
                let one = (0..DRAWS).find_map(by_chance);
                let other = (DRAWS..2 * DRAWS)
                    .filter_map(by_chance)
                    .find(|other| one.is_some_and(|one| one != *other));
                one.map(|one| other.map_or(one, |other| self.less_busy(one, other)))
            }
        };
        drawn.or_else(|| self.look_through(tried, chance, fits))
    }

    fn turn(&self, number: u64) -> Option<u16> {
        let place = number % (self.turns.len() as u64).max(1);
        self.turns.get(usize::try_from(place).ok()?).copied()
    }

    /// Of two targets the one with fewer calls in flight, by their weights. Among equals it is the first, so that weights
    /// hold while there is little to do.
    fn less_busy(&self, one: u16, other: u16) -> u16 {
        let load = |at: u16, by: u16| {
            let calls = self.targets.get(usize::from(at)).map_or(0, |target| target.in_flight());
            let weight = self.weights.get(usize::from(by)).copied().unwrap_or(1);
            u64::from(calls) * u64::from(weight)
        };
        if load(one, other) <= load(other, one) { one } else { other }
    }

    /// The target that wants the key most, of those whose calls in flight are not far above their share.
    fn by_hash(&self, key: u64, takes: &impl Fn(u16) -> Option<u16>) -> Option<u16> {
        let fitting = || {
            let places = (0..).zip(&self.weights).filter(|(_, weight)| **weight > 0);
            places.filter_map(|(at, weight)| Some((takes(at)?, *weight)))
        };
        let total: u64 = fitting().map(|(_, weight)| u64::from(weight)).sum();
        let calls = u64::from(self.state.in_flight.load(Ordering::Relaxed)).max(1);
        let mut most_wanting: Option<(f64, u16)> = None;
        let mut with_room: Option<(f64, u16)> = None;
        for (at, weight) in fitting() {
            let Some(target) = self.targets.get(usize::from(at)) else { continue };
            let score = spread::score(key, target.seed, weight);
            let higher = |best: &Option<(f64, u16)>| best.is_none_or(|(other, _)| score > other);
            if higher(&most_wanting) {
                most_wanting = Some((score, at));
            }
            let bound = (calls * u64::from(weight) * BOUND_PERCENT).div_ceil(total.max(1) * 100);
            if u64::from(target.in_flight()) < bound && higher(&with_room) {
                with_room = Some((score, at));
            }
        }
        with_room.or(most_wanting).map(|(_, at)| at)
    }

    /// The first target that fits, beginning anywhere.
    fn look_through(
        &self,
        tried: Tried,
        chance: u64,
        fits: &impl Fn(&Target) -> bool,
    ) -> Option<u16> {
        let count = self.targets.len().max(1);
        let first = usize::try_from(chance % count as u64).unwrap_or(0);
        (0..count).map(|step| (first + step) % count).find_map(|place| {
            let target = self.targets.get(place)?;
            let takes = self.weights.get(place).is_some_and(|weight| *weight > 0);
            let fits = takes && !tried.contains(place) && fits(target);
            if fits { u16::try_from(place).ok() } else { None }
        })
    }

    /// Whether so few targets are well that sparing the others would overload them.
    fn is_panicking(&self, now: u64) -> bool {
        let (mut all, mut well) = (0, 0);
        for (_, target) in self.in_use() {
            all += 1;
            well += usize::from(target.is_well(now));
        }
        well * 100 < self.panic_percent * all
    }

    /// A target failed a call. It is spared when it has failed often in a row and not too many are spared already.
    pub(crate) fn failed(&self, target: &Target, now: u64) {
        if !target.failed(&self.sparing, now) {
            return;
        }
        let _one_at_a_time = self.state.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, ejected) = self.in_use().fold((0, 0), |(all, ejected), (_, other)| {
            (all + 1, ejected + usize::from(other.is_ejected(now)))
        });
        let most: usize = (all * self.ejected_percent / 100).max(1);
        if ejected < most && !target.is_ejected(now) {
            target.eject(&self.sparing, now);
            self.metrics.ejections.inc();
        }
    }

    /// Nanoseconds in which a target that returns is brought up.
    pub(crate) const fn slow_start(&self) -> u64 {
        self.sparing.slow_start
    }

    /// Takes a retry from the budget, if there is one left.
    pub(crate) fn take_retry(&self, now: u64) -> bool {
        let ended = self.state.breaker.calls.sum(now, self.breaker.window).all;
        let calls = ended + u64::from(self.state.in_flight.load(Ordering::Relaxed));
        let retries = self.state.retries.sum(now, self.breaker.window).all;
        if retries >= (calls * self.budget_percent / 100).max(self.budget_floor) {
            self.metrics.budget_exhausted.inc();
            return false;
        }
        self.state.retries.count(false, now, self.breaker.window);
        self.metrics.retries.inc();
        true
    }

    /// Takes note of how long a target took to answer.
    pub(crate) fn measured(&self, nanos: u64, now: u64) {
        if self.is_adaptive {
            let in_flight = self.state.in_flight.load(Ordering::Relaxed);
            self.state.adaptive.measured(nanos, in_flight, now);
        }
    }
}

impl HashOn {
    fn compile(upstream: &model::Upstream) -> Self {
        if upstream.balance != Balance::ConsistentHash {
            return Self::Nothing;
        }
        match &upstream.hash_on {
            None | Some(model::HashOn::Application) => Self::Application,
            Some(model::HashOn::Address) => Self::Address,
            // What is no name of a field stands in no request.
            Some(model::HashOn::Header(name)) => {
                HeaderName::from_bytes(name.as_bytes()).map_or(Self::Nothing, Self::Header)
            }
        }
    }
}

impl Tried {
    /// With the target that a call is at.
    pub(crate) fn and(self, place: &Place) -> Self {
        let bit = place.target.and_then(|at| 1_u64.checked_shl(at.into()));
        Self(self.0 | bit.unwrap_or(0))
    }

    fn contains(self, at: usize) -> bool {
        let bit = u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at));
        bit.is_some_and(|bit| self.0 & bit != 0)
    }
}

#[cfg(test)]
mod tests;
