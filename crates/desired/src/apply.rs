//! Taking the steps: those of a phase side by side, phase after phase.

use std::{collections::HashMap, sync::Mutex, sync::PoisonError};

use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    client::{Client, ClientError},
    plan::{Call, Ids, Key, Obstacle, Plan, Step, Target},
};

/// What became of a plan.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// Steps that were taken.
    pub done: usize,
    /// Steps that failed, and those that could not be taken because of them.
    pub failed: Vec<Obstacle>,
}

/// The invitation of a person; the token is given this once.
#[derive(Debug)]
pub struct Invitation {
    /// Whom it is for.
    pub email: String,
    /// What the person proves it with.
    pub token: Zeroizing<String>,
}

/// Steps that are under way at once.
pub(crate) const AT_ONCE: usize = 8;

/// Takes the steps of a plan. A step that fails does not stop those that do not need it. `ended` is told of every step
/// that ended, and given the invitation that it made.
///
/// # Errors
///
/// When the installation stops answering; what was done until then stays, and the next run goes on from there.
pub async fn apply(
    client: &Client,
    plan: &Plan,
    mut ended: impl FnMut(&Step, Option<Invitation>),
) -> Result<Applied, ClientError> {
    let made = Mutex::new(HashMap::new());
    let mut applied = Applied { done: 0, failed: Vec::new() };
    for steps in plan.steps.chunk_by(|one, next| one.phase == next.phase) {
        let taken = stream::iter(steps).map(|step| {
            let taken = take(client, step, &made);
            async move { (step, taken.await) }
        });
        let mut taken = taken.buffer_unordered(AT_ONCE);
        while let Some((step, result)) = taken.next().await {
            let obstacle = |reason| Obstacle { subject: step.subject.clone(), reason };
            match result {
                Ok(Taken::Done(invitation)) => {
                    applied.done += 1;
                    ended(step, invitation);
                }
                Ok(Taken::Lacks(key)) => {
                    let reason = format!("needs {key}, which was not made");
                    applied.failed.push(obstacle(reason));
                }
                Err(ClientError::Refused(problem)) => {
                    applied.failed.push(obstacle(problem.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(applied)
}

enum Taken {
    /// With the invitation of whoever was invited.
    Done(Option<Invitation>),
    /// Something that an earlier step should have made is not there.
    Lacks(String),
}

pub(crate) type Made = Mutex<HashMap<Key, String>>;

async fn take(client: &Client, step: &Step, made: &Made) -> Result<Taken, ClientError> {
    let (path, body) = match resolved(&step.call, made) {
        Ok(resolved) => resolved,
        Err(key) => return Ok(Taken::Lacks(key.to_string())),
    };
    let Call { route, revision, yields, .. } = &step.call;
    let mut answer = client.write(route.method.clone(), &path, body.as_ref(), *revision).await?;
    if let (Some(key), Some(id)) = (yields, answer.get("id").and_then(Value::as_str)) {
        made.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), id.to_owned());
    }
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    let token = answer.get_mut("invitationToken").map(Value::take).and_then(text);
    let email = answer.get_mut("email").map(Value::take).and_then(text);
    let invitation = token.zip(email);
    Ok(Taken::Done(
        invitation.map(|(token, email)| Invitation { email, token: Zeroizing::new(token) }),
    ))
}

/// Path and body of a request, with every id in its place.
pub(crate) fn resolved<'c>(
    call: &'c Call,
    made: &Made,
) -> Result<(String, Option<Value>), &'c Key> {
    let made = made.lock().unwrap_or_else(PoisonError::into_inner);
    let id = |target: &'c Target| match target {
        Target::Known(id) => Ok(id.clone()),
        Target::Made(key) => made.get(key).cloned().ok_or(key),
    };
    let path = match &call.target {
        Some(target) => call.route.path.replace("{}", &id(target)?),
        None => call.route.path.to_owned(),
    };
    let Some(mut body) = call.body.clone() else { return Ok((path, None)) };
    for (field, ids) in &call.ids {
        let value = match ids {
            Ids::One(target) => Value::String(id(target)?),
            Ids::Many(targets) => {
                let ids = targets.iter().map(|target| id(target).map(Value::String));
                Value::Array(ids.collect::<Result<_, _>>()?)
            }
        };
        body.insert((*field).to_owned(), value);
    }
    Ok((path, Some(Value::Object(body))))
}
