//! Traces (OpenTelemetry): which calls are sampled, and what is said of those.
//!
//! The trace of a call is the one that its client names (W3C Trace Context), or a new one. A span holds names and
//! numbers that the marketplace knows, never a path, query, address or credential of the caller.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use crate::{
    balance::Target,
    limits::Rate,
    random::{RandomPool, is_traceparent, unhex},
    settings::TracingSettings,
};

/// How many spans may wait for the exporter.
const WAITING: usize = 4_096;
/// How many calls a second are sampled only because their callers asked for it.
const FORCED_PER_SECOND: u32 = 100;
/// The most attempts of a call that have spans.
const ATTEMPTS: usize = 16;
/// What a ratio of 1 is, for deciding with whole numbers.
const WHOLE: u64 = 1_000_000_000;

/// One step of a call, as it is told to a collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: [u8; 16],
    /// Its own identifier.
    pub span_id: [u8; 8],
    /// The span that it is part of.
    pub parent_id: Option<[u8; 8]>,
    /// Which side of an exchange it is.
    pub kind: SpanKind,
    /// What is done.
    pub name: String,
    /// When it began, in nanoseconds since 1970.
    pub start_nanos: u64,
    /// When it ended.
    pub end_nanos: u64,
    /// What more there is to know.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// Whether it failed.
    pub is_error: bool,
}

/// Which side of an exchange a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A call that the gateway answers.
    Server,
    /// An attempt to have a target answer it.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "their types say it")]
pub enum AttributeValue {
    Text(String),
    Number(i64),
}

/// The spans of a gateway, for whoever exports them.
#[derive(Debug)]
pub struct Spans {
    spans: mpsc::Receiver<Span>,
    exported: Counter,
    lost: Counter,
}

/// Decides which calls are sampled.
pub(crate) struct Tracer {
    threshold: u64,
    is_parent_based: bool,
    forced: Rate,
    forced_arrival: Mutex<u64>,
    /// Callers choose identifiers of traces; they shall not choose whether those are sampled.
    hasher: ahash::RandomState,
    spans: mpsc::Sender<Span>,
    lost: Counter,
}

/// The trace that a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: [u8; 16],
    /// The client's span; none when the trace begins here.
    pub(crate) parent: Option<[u8; 8]>,
    /// Whether the client wants it sampled.
    is_requested: bool,
}

/// What is known of a call's trace.
pub(crate) struct CallTrace {
    pub(crate) context: TraceContext,
    pub(crate) sampled: Option<Box<Sampled>>,
}

/// A call whose spans are exported.
pub(crate) struct Sampled {
    pub(crate) span: [u8; 8],
    attempts: Vec<Attempt>,
}

/// One attempt at a target.
struct Attempt {
    span: [u8; 8],
    target: Arc<Target>,
    began: u64,
    /// When it ended, and how.
    ended: Option<(u64, Result<StatusCode, &'static str>)>,
}

/// What the spans of a call have in common.
pub(crate) struct Times {
    /// When it arrived, by the clock and by the time of the process.
    pub(crate) at_nanos: u64,
    pub(crate) arrived: u64,
    pub(crate) ended: u64,
}

impl Tracer {
    /// A tracer, and where its spans come out.
    pub(crate) fn new(
        settings: &TracingSettings,
        exported: Counter,
        lost: Counter,
    ) -> (Self, Spans) {
        let (sender, spans) = mpsc::channel(WAITING);
        // A part of a second is a ratio in whole numbers.
        let ratio = Duration::try_from_secs_f64(settings.sample_ratio).unwrap_or_default();
        let tracer = Self {
            threshold: u64::try_from(ratio.as_nanos()).unwrap_or(WHOLE),
            is_parent_based: settings.is_parent_based,
            forced: Rate::new(FORCED_PER_SECOND, 1, FORCED_PER_SECOND),
            forced_arrival: Mutex::default(),
            hasher: ahash::RandomState::new(),
            spans: sender,
            lost: lost.clone(),
        };
        (tracer, Spans { spans, exported, lost })
    }

    /// Decides about a call.
    pub(crate) fn begin(
        &self,
        context: &TraceContext,
        random: &mut RandomPool,
        now: u64,
    ) -> Option<Box<Sampled>> {
        self.samples(context, now)
            .then(|| Box::new(Sampled { span: random.span_id(), attempts: Vec::new() }))
    }

    fn samples(&self, context: &TraceContext, now: u64) -> bool {
        let is_honoured = self.is_parent_based && context.is_requested && self.may_force(now);
        is_honoured
            || self.hasher.hash_one(u128::from_be_bytes(context.trace)) % WHOLE < self.threshold
    }

    /// Whether a client that asks for its call to be traced is heard.
    fn may_force(&self, now: u64) -> bool {
        let mut arrival = self.forced_arrival.lock().unwrap_or_else(PoisonError::into_inner);
        self.forced.take(&mut arrival, now).is_ok()
    }

    /// Hands a span to the exporter, or drops it when that is behind.
    pub(crate) fn export(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.lost.inc();
        }
    }
}

impl TraceContext {
    /// The trace that a `traceparent` names, if it is valid.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if !is_traceparent(text) {
            return None;
        }
        let trace = unhex(text.get(3..35)?)?;
        let parent = unhex(text.get(36..52)?)?;
        let [flags] = unhex(text.get(53..55)?)?;
        Some(Self { trace, parent: Some(parent), is_requested: flags & 1 == 1 })
    }

    /// A trace that begins here.
    pub(crate) fn begin(random: &mut RandomPool) -> Self {
        Self { trace: random.trace_id(), parent: None, is_requested: false }
    }
}

impl Sampled {
    /// An attempt begins; says which span the target is told.
    pub(crate) fn begin_attempt(
        &mut self,
        target: &Arc<Target>,
        random: &mut RandomPool,
        now: u64,
    ) -> [u8; 8] {
        if self.attempts.len() >= ATTEMPTS {
            return self.span;
        }
        let span = random.span_id();
        let target = Arc::clone(target);
        self.attempts.push(Attempt { span, target, began: now, ended: None });
        span
    }

    /// The last attempt has ended.
    pub(crate) fn end_attempt(&mut self, now: u64, how: Result<StatusCode, &'static str>) {
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.ended.is_none()) {
            attempt.ended = Some((now, how));
        }
    }

    /// The spans of all attempts.
    pub(crate) fn attempts<'call>(
        &'call self,
        trace: [u8; 16],
        method: &'static str,
        times: &'call Times,
    ) -> impl Iterator<Item = Span> + 'call {
        (0_i64..).zip(&self.attempts).map(move |(number, attempt)| {
            let (ended, how) = attempt.ended.unwrap_or((times.ended, Err("cancelled")));
            let mut attributes = vec![
                ("http.request.method", AttributeValue::text(method)),
                ("server.address", AttributeValue::text(attempt.target.url.host())),
                ("caduceus.target", AttributeValue::text(attempt.target.id)),
            ];
            if number > 0 {
                attributes.push(("http.request.resend_count", AttributeValue::Number(number)));
            }
            let mut error = None;
            match how {
                Ok(status) => {
                    let number = AttributeValue::Number(status.as_u16().into());
                    attributes.push(("http.response.status_code", number));
                    if status.as_u16() >= 400 {
                        error = Some(status.as_str().to_owned());
                    }
                }
                Err(kind) => error = Some(kind.to_owned()),
            }
            let is_error = error.is_some();
            attributes.extend(error.map(|kind| ("error.type", AttributeValue::Text(kind))));
            Span {
                trace_id: trace,
                span_id: attempt.span,
                parent_id: Some(self.span),
                kind: SpanKind::Client,
                name: method.to_owned(),
                start_nanos: times.clock(attempt.began),
                end_nanos: times.clock(ended),
                attributes,
                is_error,
            }
        })
    }
}

impl Times {
    /// What the clock showed at a time of the process.
    pub(crate) const fn clock(&self, at: u64) -> u64 {
        self.at_nanos.saturating_add(at.saturating_sub(self.arrived))
    }
}

impl AttributeValue {
    pub(crate) fn text(value: impl std::fmt::Display + Copy) -> Self {
        Self::Text(value.to_string())
    }
}

impl Spans {
    /// Waits for spans and takes at most `most`; takes none when there will be no more.
    pub async fn receive(&mut self, into: &mut Vec<Span>, most: usize) -> usize {
        self.spans.recv_many(into, most).await
    }

    /// Takes a span that is there already.
    pub fn try_receive(&mut self) -> Option<Span> {
        self.spans.try_recv().ok()
    }

    /// Counts spans that a collector has taken.
    pub fn count_exported(&self, spans: u64) {
        self.exported.inc_by(spans);
    }

    /// Counts spans that no collector took.
    pub fn count_lost(&self, spans: u64) {
        self.lost.inc_by(spans);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(sample_ratio: f64, is_parent_based: bool) -> (Tracer, Spans) {
        let settings = TracingSettings { sample_ratio, is_parent_based };
        Tracer::new(&settings, Counter::default(), Counter::default())
    }

    fn sampled(tracer: &Tracer, calls: usize, context: impl Fn() -> TraceContext) -> usize {
        (0..calls).filter(|_| tracer.samples(&context(), 0)).count()
    }

    #[test]
    fn a_share_of_the_traces_is_sampled() {
        let random = std::cell::RefCell::new(RandomPool::new());
        let any = || TraceContext::begin(&mut random.borrow_mut());
        assert_eq!(sampled(&tracer(0.0, true).0, 1_000, any), 0);
        assert_eq!(sampled(&tracer(1.0, true).0, 1_000, any), 1_000);
        let share = sampled(&tracer(0.01, true).0, 100_000, any);
        // Seven standard deviations around the mean.
        assert!((780..=1_220).contains(&share), "{share}");
    }

    #[test]
    fn callers_can_ask_for_samples_within_a_bound_and_choose_no_trace_that_is_sampled() {
        let wanted = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let wanted = TraceContext::parse(wanted).unwrap();
        assert_eq!((wanted.trace[0], wanted.parent.unwrap()[7]), (0x4b, 0xb7));
        let (tracer_, _spans) = tracer(0.0, true);
        assert_eq!(sampled(&tracer_, 1_000, || wanted), 100);
        assert!(tracer_.samples(&wanted, 1_000_000_000));
        assert_eq!(sampled(&tracer(0.0, false).0, 1_000, || wanted), 0);
        // The same trace is decided about differently by every process.
        let decided = (0..400).filter(|_| tracer(0.5, false).0.samples(&wanted, 0)).count();
        assert!((100..=300).contains(&decided), "{decided}");
    }

    #[test]
    fn spans_beyond_the_bound_are_dropped_and_counted() {
        let (tracer, mut spans) = tracer(1.0, true);
        let span = Span {
            trace_id: [1; 16],
            span_id: [1; 8],
            parent_id: None,
            kind: SpanKind::Server,
            name: "GET".to_owned(),
            start_nanos: 1,
            end_nanos: 2,
            attributes: Vec::new(),
            is_error: false,
        };
        (0..WAITING + 5).for_each(|_| tracer.export(span.clone()));
        assert_eq!(tracer.lost.get(), 5);
        assert_eq!(spans.try_receive(), Some(span));
    }
}
