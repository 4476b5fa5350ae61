//! Beside stage 1: pages of other origins (Fetch standard, CORS protocol).
//!
//! A browser asks for permission without credentials, so preflight requests are answered before anybody is identified.

use http::{
    HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, VARY,
    },
};
use model::Cors;

use crate::{
    connection::RequestHead,
    fields::{AnswerFields, Fields, Name},
    rejection::Rejection,
};

/// Rules for pages of other origins, ready for calls.
pub(crate) struct CorsPolicy {
    allows_all: bool,
    origins: Vec<HeaderValue>,
    methods: HeaderValue,
    /// None when pages may send whatever they ask for.
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

const VARIES: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

impl CorsPolicy {
    /// Prepares rules; none when a name cannot stand in a header.
    pub(crate) fn compile(cors: &Cors) -> Option<Self> {
        let list = |names: &[String]| HeaderValue::from_str(&names.join(", ")).ok();
        let origins = cors.origins.iter().filter(|origin| *origin != "*");
        Some(Self {
            allows_all: cors.origins.iter().any(|origin| origin == "*"),
            origins: origins
                .map(|origin| HeaderValue::from_str(origin).ok())
                .collect::<Option<_>>()?,
            methods: list(&cors.methods)?,
            headers: if cors.headers.iter().any(|name| name == "*") {
                None
            } else {
                Some(list(&cors.headers)?)
            },
            exposed: if cors.exposed_headers.is_empty() {
                None
            } else {
                Some(list(&cors.exposed_headers)?)
            },
            credentials: cors.credentials,
            max_age: cors.max_age_seconds.into(),
        })
    }

    /// The fields that answer a preflight request; none when the request is not one.
    pub(crate) fn preflight(&self, head: &RequestHead) -> Option<Result<AnswerFields, Rejection>> {
        let fields = &head.fields;
        let is_preflight = head.method == Method::OPTIONS
            && fields.has(Name::Origin)
            && fields.has(Name::AccessControlRequestMethod);
        if !is_preflight {
            return None;
        }
        let Some(origin) = self.permitted(fields) else {
            return Some(Err(Rejection::OriginRefused));
        };
        let mut answer = AnswerFields::default();
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let asked = || fields.value(Name::AccessControlRequestHeaders);
        if let Some(headers) = self.headers.clone().or_else(asked) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        answer.insert(VARY, VARIES);
        Some(Ok(answer))
    }

    /// Tells a browser which page may read an answer, in place of what the target says about it.
    pub(crate) fn announce(&self, origin: Option<HeaderValue>, answer: &mut AnswerFields) {
        answer.remove_received("access-control-");
        if !self.allows_all {
            answer.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = origin else { return };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = &self.exposed {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    /// What `Access-Control-Allow-Origin` says to the page that asks, if it may call.
    pub(crate) fn permitted(&self, fields: &Fields) -> Option<HeaderValue> {
        let origin = fields.first(Name::Origin)?;
        if self.allows_all {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().find(|known| known.as_bytes() == origin).cloned()
    }
}
