//! Part of stage 5: the request compared with the operation of the specification.
//!
//! A body is kept whole for it, up to a bound. What takes more than a moment is done beside the event loop, so that no
//! call waits for the body of another.

use std::{borrow::Cow, future::poll_fn, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method};
use spec::{BodyCheck, BodyNeed, Effort, Findings, OperationNumber};

use super::{Recorder, forward};
use crate::{
    body::{BodyTrouble, RequestBody},
    connection::RequestHead,
    fields::{Fields, Name},
    rejection::Rejection,
    table::{Deployment, ReadRules, Validation},
    worker::Worker,
};

/// Says on answers to calls that passed although they did not fit.
pub(crate) const CADUCEUS_VALIDATION: HeaderName = HeaderName::from_static("caduceus-validation");

/// Bodies and rules up to this size are worked on between other calls.
const LIGHT: usize = 64 << 10;

/// A request, and the part of its path that templates describe.
#[derive(Clone, Copy)]
pub(crate) struct Request<'c> {
    pub(crate) head: &'c RequestHead,
    pub(crate) path: &'c str,
}

/// What became of a body that was to be kept.
enum Kept {
    Whole(Bytes),
    TooLarge(RequestBody),
}

/// How many findings a warning is about.
pub(crate) fn warning(misfits: usize) -> HeaderValue {
    HeaderValue::from_str(&format!("warn; errors={misfits}")).expect("a number is a header value")
}

/// Compares a request with its operation. Returns the body, and how much did not fit where that is only told.
pub(crate) async fn validate(
    worker: &Worker,
    deployment: &Deployment,
    validation: &Validation,
    request: Request<'_>,
    mut body: RequestBody,
    recorder: &mut Recorder,
) -> Result<(RequestBody, usize), Rejection> {
    let Some(rules) = read(validation).await else {
        return if validation.enforced { Err(Rejection::NoConfiguration) } else { Ok((body, 0)) };
    };
    let judged = judge(worker, deployment, validation, rules, request, &mut body, recorder).await?;
    let Err(misfit) = judged else { return Ok((body, 0)) };
    let errors = match &misfit {
        Rejection::ValidationFailed { findings } => findings.as_slice().len(),
        _ => 1,
    };
    deployment.metrics.count_misfit(recorder.operation, validation.enforced);
    tracing::debug!(
        deployment.id = %deployment.id,
        operation = recorder.operation,
        errors,
        refused = validation.enforced,
        "a request does not fit its operation"
    );
    if validation.enforced { Err(misfit) } else { Ok((body, errors)) }
}

/// The rules, read beside the event loop when that takes long.
async fn read(validation: &Validation) -> Option<&ReadRules> {
    if validation.rules.unread() > LIGHT {
        let rules = Arc::clone(&validation.rules);
        // Whatever became of it, the next line finds out.
        drop(tokio::task::spawn_blocking(move || rules.get().is_some()).await);
    }
    validation.rules.get()
}

/// What does not fit, as the rejection that it is where validation is enforced. Fails when the body does not arrive.
async fn judge(
    worker: &Worker,
    deployment: &Deployment,
    validation: &Validation,
    rules: &ReadRules,
    request: Request<'_>,
    body: &mut RequestBody,
    recorder: &mut Recorder,
) -> Result<Result<(), Rejection>, Rejection> {
    let Some(number) = operation(deployment, &request, recorder.operation) else {
        return Ok(Err(undeclared(deployment, request.path)));
    };
    let Some(number) = rules.number(number) else { return Ok(Ok(())) };
    let mut findings = Findings::default();
    let header = |name: &str| field(&request.head.fields, name);
    let query = request.head.target.path.query().unwrap_or_default();
    let head = spec::RequestHead { path: request.path, query, header: &header };
    rules.rules.check_head(number, &head, &mut findings);

    let media_type = request.head.fields.text(Name::ContentType).unwrap_or_default();
    let need = rules.rules.body_need(number, media_type);
    match (&*body, need) {
        (RequestBody::Empty, _) if rules.rules.requires_body(number) => {
            findings.add("/body", "is required");
        }
        (RequestBody::Empty, _) | (_, BodyNeed::Nothing) => {}
        (_, BodyNeed::Absent) => {
            findings.add("/body", "must not be sent: the operation declares no body");
        }
        (_, BodyNeed::Whole) => {
            if is_encoded(&request.head.fields) {
                return Ok(Err(Rejection::ContentEncodingNotSupported));
            }
            let max_bytes = worker.shared.settings.max_validated_bytes;
            let taken = std::mem::replace(body, RequestBody::Empty);
            let kept = keep(taken, max_bytes.min(deployment.max_body_bytes)).await;
            match kept.map_err(|trouble| forward::refuse(trouble, deployment))? {
                Kept::TooLarge(rest) => {
                    *body = rest;
                    return Ok(Err(Rejection::BodyTooLarge { max_bytes }));
                }
                Kept::Whole(bytes) => {
                    *body = RequestBody::Whole(bytes.clone());
                    match check(worker, validation, rules, number, media_type, bytes).await {
                        Ok(found) => findings.append(found),
                        Err(rejection) => return Ok(Err(rejection)),
                    }
                }
            }
        }
    }
    Ok(if findings.is_empty() { Ok(()) } else { Err(Rejection::ValidationFailed { findings }) })
}

/// The operation that is called; HEAD is answered where GET is.
fn operation(deployment: &Deployment, request: &Request<'_>, found: Option<u16>) -> Option<u16> {
    let is_head = request.head.method == Method::HEAD;
    found.or_else(|| {
        if is_head { deployment.operations.find(&Method::GET, request.path) } else { None }
    })
}

fn undeclared(deployment: &Deployment, path: &str) -> Rejection {
    let methods = deployment.operations.methods(path);
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    match HeaderValue::from_str(&names.join(", ")) {
        Ok(allow) if !names.is_empty() => Rejection::MethodNotAllowed { allow },
        _ => Rejection::OperationNotFound,
    }
}

/// A header field; several of one name are one list.
fn field<'c>(fields: &'c Fields, name: &str) -> Option<Cow<'c, str>> {
    let mut values = fields.named(name);
    let first = String::from_utf8_lossy(values.next()?);
    Some(values.fold(first, |list, value| {
        Cow::Owned(format!("{list}, {}", String::from_utf8_lossy(value)))
    }))
}

fn is_encoded(fields: &Fields) -> bool {
    fields.all(Name::ContentEncoding).any(|value| !value.eq_ignore_ascii_case(b"identity"))
}

/// Takes a body whole, unless it is larger than `max_bytes`; then nothing of it is lost.
async fn keep(mut body: RequestBody, max_bytes: u64) -> Result<Kept, BodyTrouble> {
    if let RequestBody::Whole(bytes) = body {
        return Ok(Kept::Whole(bytes));
    }
    if body.length().is_some_and(|length| length > max_bytes) {
        return Ok(Kept::TooLarge(body));
    }
    let mut taken = BytesMut::new();
    while let Some(data) = poll_fn(|context| body.poll_data(context)).await {
        taken.extend_from_slice(&data?);
        if taken.len() as u64 > max_bytes {
            let taken = Some(taken.freeze());
            return Ok(Kept::TooLarge(RequestBody::Resumed { taken, rest: Box::new(body) }));
        }
    }
    Ok(Kept::Whole(taken.freeze()))
}

/// Compares a body, beside the event loop when that takes more than a moment.
async fn check(
    worker: &Worker,
    validation: &Validation,
    rules: &ReadRules,
    number: OperationNumber,
    media_type: &str,
    bytes: Bytes,
) -> Result<Findings, Rejection> {
    let mut findings = Findings::default();
    if bytes.is_empty() {
        if rules.rules.requires_body(number) {
            findings.add("/body", "is required");
        }
        return Ok(findings);
    }
    let mut checked = BodyCheck::TooMuch;
    if bytes.len() <= LIGHT {
        checked = rules.rules.check_body(number, media_type, &bytes, Effort::Little);
    }
    if checked == BodyCheck::TooMuch {
        let _permit = worker.shared.validations.acquire().await;
        let rules = Arc::clone(&validation.rules);
        let media_type = media_type.to_owned();
        let heavy = tokio::task::spawn_blocking(move || match rules.get() {
            Some(read) => read.rules.check_body(number, &media_type, &bytes, Effort::Much),
            None => BodyCheck::TooMuch,
        });
        checked = heavy.await.unwrap_or(BodyCheck::TooMuch);
    }
    match checked {
        BodyCheck::Done(found) => Ok(found),
        BodyCheck::Malformed(malformed) => Err(Rejection::MalformedJson { malformed }),
        BodyCheck::TooMuch => {
            findings.add("/body", "takes too much work to check");
            Ok(findings)
        }
    }
}
