//! One call of the control API, as handlers see it.

use std::{collections::HashMap, net::IpAddr, str::FromStr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use market::{Kind, Market, Page, Request};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// One call.
pub(crate) struct Call {
    pub(crate) market: Arc<Market>,
    pub(crate) request_id: String,
    pub(crate) address: IpAddr,
    pub(crate) headers: HeaderMap,
    pub(crate) path: HashMap<String, String>,
    pub(crate) query: String,
    pub(crate) body: Bytes,
    signed_in: Option<Request>,
}

impl Call {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from the parts of a request")]
    pub(crate) const fn new(
        market: Arc<Market>,
        request_id: String,
        address: IpAddr,
        headers: HeaderMap,
        path: HashMap<String, String>,
        query: String,
        body: Bytes,
        signed_in: Option<Request>,
    ) -> Self {
        Self { market, request_id, address, headers, path, query, body, signed_in }
    }

    /// Who asks, and under which conditions.
    pub(crate) const fn request(&self) -> &Request {
        self.signed_in.as_ref().expect("routes that are not public are only reached signed in")
    }

    /// The same request, held to a revision that was just read.
    pub(crate) fn request_for(&self, revision: i64) -> Request {
        let request = self.request();
        Request {
            expected_revision: Some(request.expected_revision.unwrap_or(revision)),
            ..request.clone()
        }
    }

    /// An identifier out of the path; one that is not well-formed names nothing.
    pub(crate) fn id<T: FromStr>(&self, name: &str, kind: Kind) -> Result<T, Problem> {
        self.path
            .get(name)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Problem::not_found(kind))
    }

    /// The query as a type.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_urlencoded::from_str(&self.query).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_query",
                format!("the query is wrong: {error}"),
            )
        })
    }

    /// The media types of the `Accept` header, most wanted first.
    pub(crate) fn accepted(&self) -> Vec<String> {
        let mut ranges: Vec<(f32, String)> = self
            .headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let essence = parts.next()?.to_ascii_lowercase();
                let quality = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
                (quality > 0.0).then_some((quality, essence))
            })
            .collect();
        ranges.sort_by(|left, right| right.0.total_cmp(&left.0));
        ranges.into_iter().map(|(_, essence)| essence).collect()
    }
}

/// `page` and `limit` of a list.
pub(crate) fn page(page: Option<u32>, limit: Option<u32>) -> Result<(u32, u32, Page), Problem> {
    let number = page.unwrap_or(1);
    let limit = limit.unwrap_or(20);
    if number == 0 || !(1..=Page::LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!("page must be at least 1, limit 1 to {}", Page::LIMIT_MAX),
        ));
    }
    Ok((number, limit, Page::numbered(number, limit)))
}
