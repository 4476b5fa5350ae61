//! Specifications: fetching, validating, and handing them out again.

use std::{net::IpAddr, sync::Arc, time::Duration};

use authz::Action;
use model::{AddressPolicy, ApiId};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::{Deserialize, Serialize};
use spec::{Report, Severity, Summary, Syntax};
use store::specification::StoredSpecification;
use url::{Host, Url};

use crate::{Kind, Market, MarketError, Request, apis, versions, viewer};

/// Where a specification comes from.
#[derive(Debug, Clone)]
pub enum SpecificationSource {
    /// The document itself.
    Content(Vec<u8>),
    /// An address, at one of the hosts that the operator listed.
    Url(Url),
}

/// One thing that a validation has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Stable id of the rule.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// JSON path of the value.
    pub location: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A specification as it is handed out.
#[derive(Debug, Clone)]
pub struct SpecificationView {
    /// `application/json` or `application/yaml`.
    pub media_type: &'static str,
    /// The document.
    pub content: Vec<u8>,
}

/// A specification that is valid.
pub(crate) struct ReadSpecification {
    pub(crate) content: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) summary: Summary,
    pub(crate) findings: Vec<Finding>,
}

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

impl Market {
    /// Validates a specification without storing anything.
    pub async fn validate_specification(
        &self,
        request: &Request,
        source: SpecificationSource,
    ) -> Result<Report, MarketError> {
        self.require(request, Action::ValidateSpecification).await?;
        let content = self.obtain(source).await?;
        self.validate(content).await.map(|(report, _)| report)
    }

    /// Hands out the specification of a version that the caller may see: the original, or converted to a syntax.
    pub async fn read_specification_of(
        &self,
        request: &Request,
        api: ApiId,
        number: Option<&semver::Version>,
        syntax: Option<Syntax>,
    ) -> Result<SpecificationView, MarketError> {
        self.require(request, Action::ReadSpecification).await?;
        let stored = self.find_specification(request, api, number).await?;
        let original = syntax_of(&stored.media_type);
        match syntax {
            Some(wanted) if wanted != original => {
                let limits = self.spec_limits();
                let converted = tokio::task::spawn_blocking(move || {
                    spec::convert(&stored.content, &limits, wanted)
                })
                .await
                .map_err(|error| MarketError::internal("a conversion failed")(error.into()))?
                .map_err(|issue| {
                    MarketError::internal("a stored specification could not be read")(
                        issue.message.into(),
                    )
                })?;
                Ok(SpecificationView {
                    media_type: media_type(wanted),
                    content: converted.into_bytes(),
                })
            }
            _ => {
                Ok(SpecificationView { media_type: media_type(original), content: stored.content })
            }
        }
    }

    /// What was read out of the specification of a version that the caller may see.
    pub async fn read_summary_of(
        &self,
        request: &Request,
        api: ApiId,
        number: Option<&semver::Version>,
    ) -> Result<Summary, MarketError> {
        self.require(request, Action::ReadSpecificationSummary).await?;
        let stored = self.find_specification(request, api, number).await?;
        parse_summary(&stored.summary)
    }

    /// Obtains and validates a specification that is to be stored; refuses one with errors.
    pub(crate) async fn read_specification(
        &self,
        source: SpecificationSource,
    ) -> Result<ReadSpecification, MarketError> {
        let content = self.obtain(source).await?;
        let (report, content) = self.validate(content).await?;
        if !report.is_valid() {
            return Err(MarketError::Specification(Box::new(report)));
        }
        let findings = report.issues.iter().map(Finding::from).collect();
        let Some(summary) = report.summary else {
            return Err(MarketError::Internal("a valid specification has no summary", None));
        };
        let media_type = media_type(report.syntax.unwrap_or(Syntax::Yaml));
        Ok(ReadSpecification { content, media_type, summary, findings })
    }

    async fn validate(&self, content: Vec<u8>) -> Result<(Report, Vec<u8>), MarketError> {
        let limits = self.spec_limits();
        tokio::task::spawn_blocking(move || {
            let report = spec::validate(&content, &limits);
            (report, content)
        })
        .await
        .map_err(|error| MarketError::internal("a validation failed")(error.into()))
    }

    async fn find_specification(
        &self,
        request: &Request,
        api: ApiId,
        number: Option<&semver::Version>,
    ) -> Result<StoredSpecification, MarketError> {
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        apis::find_visible(&mut tx, request, api).await?;
        let visible = store::version::list_of(&mut tx, viewer(&request.caller), api).await?;
        let version = versions::pick(&visible, number)?;
        store::specification::find(&mut tx, version.id)
            .await?
            .ok_or(MarketError::NotFound(Kind::Version))
    }

    async fn obtain(&self, source: SpecificationSource) -> Result<Vec<u8>, MarketError> {
        match source {
            SpecificationSource::Content(content) => Ok(content),
            SpecificationSource::Url(url) => self.fetch(url).await,
        }
    }

    async fn fetch(&self, url: Url) -> Result<Vec<u8>, MarketError> {
        let refuse = |message: &str| MarketError::invalid("specification.url", message);
        if !matches!(url.scheme(), "http" | "https")
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(refuse("must be an http or https address without credentials"));
        }
        let host = url.host_str().unwrap_or_default();
        if !self.settings.specification_hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host))
        {
            return Err(refuse("is at a host that the operator has not listed for specifications"));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        if literal.is_some_and(|address| !self.settings.addresses.permits(address)) {
            return Err(refuse("is at an address that may not be connected to"));
        }
        let resolver = CheckedResolver(self.settings.addresses.clone());
        let fail = |error: reqwest::Error| MarketError::Fetch(error.without_url().to_string());
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(FETCH_TIMEOUT)
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .build()
            .map_err(fail)?;
        let mut response = client.get(url).send().await.map_err(fail)?;
        if !response.status().is_success() {
            return Err(MarketError::Fetch(format!("the server answered {}", response.status())));
        }
        let mut content = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            if content.len() + chunk.len() > self.settings.specification_max_bytes {
                return Err(MarketError::Fetch("the document is too large".to_owned()));
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    }

    pub(crate) fn spec_limits(&self) -> spec::Limits {
        spec::Limits {
            document_bytes: self.settings.specification_max_bytes,
            ..spec::Limits::default()
        }
    }
}

/// Resolves names and leaves out addresses that may not be connected to.
struct CheckedResolver(AddressPolicy);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<_> = found.filter(|address| policy.permits(address.ip())).collect();
            if permitted.is_empty() {
                return Err("the name has no address that may be connected to".into());
            }
            let addresses: Addrs = Box::new(permitted.into_iter());
            Ok(addresses)
        })
    }
}

impl From<&spec::Issue> for Finding {
    fn from(issue: &spec::Issue) -> Self {
        Self {
            severity: issue.severity,
            rule: issue.rule.to_owned(),
            message: issue.message.clone(),
            location: issue.location.clone(),
            line: issue.line,
            column: issue.column,
        }
    }
}

pub(crate) fn parse_summary(json: &str) -> Result<Summary, MarketError> {
    serde_json::from_str(json)
        .map_err(|error| MarketError::internal("a stored summary could not be read")(error.into()))
}

const fn media_type(syntax: Syntax) -> &'static str {
    match syntax {
        Syntax::Json => "application/json",
        Syntax::Yaml => "application/yaml",
    }
}

fn syntax_of(media_type: &str) -> Syntax {
    if media_type == "application/json" { Syntax::Json } else { Syntax::Yaml }
}
