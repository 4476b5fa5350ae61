//! Stage 11: the answer of a target in the form in which the client takes it.

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY,
    },
};

use crate::{
    coding::{Coding, Decoder, Encoder},
    fields::{AnswerFields, Fields, Name},
};

/// Shorter answers gain nothing from being compressed.
const COMPRESS_FROM: u64 = 1_024;
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const DIGEST: [HeaderName; 3] =
    [CONTENT_MD5, HeaderName::from_static("content-digest"), HeaderName::from_static("digest")];

/// How the body of an answer is changed on its way.
pub(crate) enum Recoding {
    Encode(Encoder),
    Decode(Decoder),
}

/// The coding that the client likes best; whoever says nothing gets none that it did not ask for.
fn preferred(asked: &Fields) -> Option<Coding> {
    if asked.has(Name::AcceptEncoding) {
        Coding::preferred(&asked.all(Name::AcceptEncoding))
    } else {
        None
    }
}

/// Whether the client takes a coding; whoever says nothing takes any (RFC 9110, 12.5.3).
fn is_taken(asked: &Fields, coding: Coding) -> bool {
    !asked.has(Name::AcceptEncoding) || coding.is_accepted(asked.all(Name::AcceptEncoding))
}

/// Decides whether the body of an answer is coded or decoded, and adjusts the fields that describe it. `length` is
/// that of the body, when it is known.
pub(crate) fn recode(
    asked: &Fields,
    compress: bool,
    status: StatusCode,
    length: Option<u64>,
    fields: &mut AnswerFields,
) -> Option<Recoding> {
    if status == StatusCode::PARTIAL_CONTENT || length == Some(0) {
        return None;
    }
    let coded = {
        let mut codings = fields.all(&CONTENT_ENCODING);
        (codings.next().map(Coding::parse), codings.next().is_some())
    };
    match coded {
        (Some(coding), false) => {
            let coding = coding?;
            if is_taken(asked, coding) {
                return None;
            }
            fields.remove(&CONTENT_ENCODING);
            changed(fields);
            Some(Recoding::Decode(Decoder::new(coding)))
        }
        (Some(_), true) => None,
        (None, _) if compress && may_compress(length, fields) => {
            fields.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            let coding = preferred(asked)?;
            changed(fields);
            fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            Some(Recoding::Encode(Encoder::new(coding)))
        }
        (None, _) => None,
    }
}

/// What was said about the bytes of the body is not true any more.
fn changed(fields: &mut AnswerFields) {
    fields.remove(&CONTENT_LENGTH);
    fields.remove(&ACCEPT_RANGES);
    for name in DIGEST {
        fields.remove(&name);
    }
    // Another form of the same content has a weak validator at most (RFC 9110, 8.8.1).
    let weak = fields.first(&ETAG).filter(|tag| !tag.starts_with(b"W/"));
    let weak = weak.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag].concat()).ok());
    if let Some(weak) = weak {
        fields.insert(ETAG, weak);
    }
}

fn may_compress(length: Option<u64>, fields: &AnswerFields) -> bool {
    let is_forbidden = fields.all(&CACHE_CONTROL).any(|value| {
        let mut directives = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        directives.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
    });
    let kind = fields.first(&CONTENT_TYPE).and_then(|kind| std::str::from_utf8(kind).ok());
    let kind = kind.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/") && kind != "text/event-stream";
    let is_data = ["json", "xml", "javascript", "yaml", "x-ndjson", "csv", "wasm"];
    let is_data =
        kind.starts_with("application/") && is_data.iter().any(|data| kind.ends_with(data));
    !is_forbidden
        && (is_text || is_data || kind == "image/svg+xml")
        && length.is_none_or(|length| length >= COMPRESS_FROM)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(pair).collect()
    }

    fn recoded(
        accept: &'static str,
        list: &[(&'static str, &'static str)],
    ) -> (&'static str, HeaderMap) {
        let request = Fields::from_map(&fields(&[("accept-encoding", accept)]), b"a");
        let mut answer = AnswerFields::from(fields(list));
        let recoding = recode(&request, true, StatusCode::OK, Some(2_000), &mut answer);
        let kind = match recoding {
            None => "as it is",
            Some(Recoding::Encode(_)) => "encoded",
            Some(Recoding::Decode(_)) => "decoded",
        };
        (kind, answer.to_map())
    }

    #[test]
    fn data_is_compressed_for_clients_that_take_it() {
        let json = [
            ("content-type", "application/fhir+json; charset=utf-8"),
            ("etag", "\"1\""),
            ("content-length", "2000"),
        ];
        let (kind, answer) = recoded("gzip", &json);
        assert_eq!(
            (kind, &answer[CONTENT_ENCODING], &answer[ETAG]),
            ("encoded", &HeaderValue::from_static("gzip"), &HeaderValue::from_static("W/\"1\""))
        );
        assert!(!answer.contains_key(CONTENT_LENGTH));
        let (kind, answer) = recoded("identity", &json);
        assert_eq!((kind, answer[VARY].to_str().unwrap()), ("as it is", "Accept-Encoding"));
        for unfit in [("content-type", "image/png"), ("content-type", "text/event-stream")] {
            assert_eq!(recoded("gzip", &[unfit]).0, "as it is");
        }
        let forbidden =
            [("content-type", "text/plain"), ("cache-control", "private, no-transform")];
        assert_eq!(recoded("gzip", &forbidden).0, "as it is");
    }

    #[test]
    fn what_a_client_does_not_take_is_decoded() {
        let coded = [("content-type", "text/plain"), ("content-encoding", "gzip")];
        assert_eq!(recoded("gzip;q=0, br", &coded).0, "decoded");
        assert_eq!(recoded("gzip", &coded).0, "as it is");
        let unknown = [("content-encoding", "zstd")];
        assert_eq!(recoded("br", &unknown).0, "as it is");
    }
}
