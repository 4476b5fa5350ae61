//! Whether two answers tell the one who asked anything apart.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::Answer;

/// Headers that differ between any two answers (the time has more or fewer digits; bodies are compared themselves), or
/// count what the caller does.
const VARYING: [&str; 3] = ["content-length", "date", "x-request-id"];
const COUNTING: [&str; 2] = ["ratelimit", "x-ratelimit"];

/// In what two answers differ; each comes with the identifiers that were named, which they may repeat.
pub(crate) fn difference<I: AsRef<str>>(
    known: (&Answer, &[I]),
    absent: (&Answer, &[I]),
) -> Option<String> {
    let ((one, one_ids), (other, other_ids)) = (known, absent);
    if one.status != other.status {
        return Some(format!(
            "status {} for what is there and {} for what is not",
            one.status, other.status
        ));
    }
    let (headers, others) = (headers(one, one_ids), headers(other, other_ids));
    if headers != others {
        let differing = headers.iter().find(|(name, values)| others.get(*name) != Some(values));
        let name =
            differing.or_else(|| others.iter().find(|(name, _)| !headers.contains_key(*name)));
        let name = name.map_or("", |(name, _)| name.as_str());
        return Some(format!("the header {name} differs"));
    }
    let (body, other_body) = (body(one, one_ids), body(other, other_ids));
    (body != other_body).then(|| format!("the body differs: {body} and {other_body}"))
}

fn headers(answer: &Answer, ids: &[impl AsRef<str>]) -> BTreeMap<String, Vec<String>> {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &answer.headers {
        let name = name.as_str();
        if VARYING.contains(&name) {
            continue;
        }
        let value = if COUNTING.iter().any(|counting| name.starts_with(counting)) {
            String::new()
        } else {
            without(&String::from_utf8_lossy(value.as_bytes()), ids)
        };
        headers.entry(name.to_owned()).or_default().push(value);
    }
    headers
}

fn body(answer: &Answer, ids: &[impl AsRef<str>]) -> Value {
    let text = without(&answer.body, ids);
    let Ok(mut body) = serde_json::from_str::<Value>(&text) else { return Value::String(text) };
    if let Some(members) = body.as_object_mut() {
        members.remove("requestId");
        members.remove("timestamp");
    }
    body
}

/// A text without the identifiers that the one who asked has named.
pub(crate) fn without(text: &str, ids: &[impl AsRef<str>]) -> String {
    let named = ids.iter().map(AsRef::as_ref).filter(|id| !id.is_empty());
    named.fold(text.to_owned(), |text, id| text.replace(id, "{named}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, header: &str, body: &str) -> Answer {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("date", header.parse().unwrap());
        headers.insert("etag", header.parse().unwrap());
        Answer { status, headers, body: body.to_owned() }
    }

    #[test]
    fn what_differs_is_said() {
        let is = |one: &Answer, other: &Answer| difference((one, &["api_1"]), (other, &["api_2"]));
        let problem = |id: &str, request: &str| {
            format!(
                "{{\"code\":\"api_not_found\",\"instance\":\"/apis/{id}\",\"requestId\":\"{request}\"}}"
            )
        };
        let known = answer(404, "a", &problem("api_1", "x"));
        assert_eq!(is(&known, &answer(404, "a", &problem("api_2", "y"))), None);
        assert!(is(&known, &answer(403, "a", &known.body)).unwrap().starts_with("status 404"));
        let other = answer(404, "b", &problem("api_2", "y"));
        assert_eq!(is(&known, &other).unwrap(), "the header etag differs");
        let told = answer(404, "a", "{\"code\":\"plan_not_found\",\"instance\":\"/apis/api_2\"}");
        assert!(is(&known, &told).unwrap().starts_with("the body differs"));
    }
}
