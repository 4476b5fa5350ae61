//! Versions of APIs: submitting them, reviewing them, and ending them.

use authz::Action;
use jiff::Timestamp;
use model::{
    Api, ApiId, ApiVersion, Decision, EventKind, SpecificationFormat, Transition, VersionStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::specification::StoredSpecification;

use crate::{
    Begun, Conflict, Finding, Kind, Market, MarketError, Request, SpecificationSource, apis,
    change::Change, specifications::ReadSpecification, viewer,
};

/// A version to submit.
#[derive(Debug, Clone)]
pub struct VersionDraft {
    /// Semantic version.
    pub number: semver::Version,
    /// Its description.
    pub source: SpecificationSource,
}

/// A version that was submitted, with what the validation had to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisteredVersion {
    /// The API.
    pub api: Api,
    /// The version.
    pub version: ApiVersion,
    /// Warnings and notes; errors would have refused it.
    pub findings: Vec<Finding>,
}

/// A reviewer's word.
#[derive(Debug, Clone)]
pub struct Review {
    /// The version; the only one that waits, when absent.
    pub number: Option<semver::Version>,
    /// What the reviewer wrote.
    pub comments: String,
    /// Why it is refused.
    pub reasons: Vec<String>,
}

/// The announcement of an end.
#[derive(Debug, Clone)]
pub struct Deprecation {
    /// The version; the only active one, when absent.
    pub number: Option<semver::Version>,
    /// When it will stop answering.
    pub sunset_at: Option<Timestamp>,
    /// The version that replaces it.
    pub successor: Option<semver::Version>,
}

const COMMENTS_MAX: usize = 4_000;
const REASONS_MAX: usize = 20;

impl Market {
    /// Submits a version of an API. One that is a draft or was rejected may be submitted again under its number.
    pub async fn submit_version(
        &self,
        request: &Request,
        api: ApiId,
        draft: VersionDraft,
    ) -> Result<RegisteredVersion, MarketError> {
        self.require(request, Action::SubmitVersion).await?;
        let specification = self.read_specification(draft.source).await?;
        let mut change = match self.begin(request, Action::SubmitVersion).await? {
            Begun::Fresh(change) => change,
            Begun::Done(registered) => return Ok(registered),
        };
        let api = apis::find_own(request, &mut change, api).await?;
        let version =
            self.store_version(request, &mut change, &api, draft.number, &specification).await?;
        change.audit(api.tenant, version.id, json!({ "version": version.number })).await?;
        change.announce(api.tenant, EventKind::ApiChanged, &api.id);
        change.announce(api.tenant, EventKind::VersionSubmitted, &version.id);
        change.finish(RegisteredVersion { api, version, findings: specification.findings }).await
    }

    pub(crate) async fn store_version(
        &self,
        request: &Request,
        change: &mut Change<'_>,
        api: &Api,
        number: semver::Version,
        specification: &ReadSpecification,
    ) -> Result<ApiVersion, MarketError> {
        let now = self.clock.now();
        let digest = store::specification::digest(&specification.content);
        let seen = viewer(&request.caller);
        let earlier = store::version::find_numbered(change.tx(), seen, api.id, &number).await?;
        let version = match earlier {
            Some(mut version) => {
                let taken = Conflict::Taken(Kind::Version, "number");
                if !matches!(version.status, VersionStatus::Draft | VersionStatus::Rejected) {
                    return Err(taken.into());
                }
                version.status =
                    version.status.after(Transition::Submit).map_err(Conflict::from)?;
                version.submitted_by = request.caller.user();
                version.decision = None;
                version.specification_sha256 = digest.clone();
                version.updated_at = now;
                version.revision += 1;
                store::version::update(change.tx(), &version).await?;
                version
            }
            None => {
                let version = ApiVersion {
                    id: self.ids.next(),
                    api: api.id,
                    tenant: api.tenant,
                    number,
                    status: VersionStatus::PendingApproval,
                    submitted_by: request.caller.user(),
                    decision: None,
                    deprecated_at: None,
                    sunset_at: None,
                    successor: None,
                    format: SpecificationFormat::Openapi,
                    specification_sha256: digest,
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                };
                let count = store::version::list_of(change.tx(), seen, api.id).await?.len();
                if i64::try_from(count).unwrap_or(i64::MAX) >= store::version::MAX_PER_API {
                    return Err(Conflict::TooMany(store::version::MAX_PER_API).into());
                }
                store::version::insert(change.tx(), &version)
                    .await
                    .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Version, "number")))?;
                version
            }
        };
        let summary = serde_json::to_string(&specification.summary).map_err(|error| {
            MarketError::internal("a summary could not be written")(error.into())
        })?;
        let stored = StoredSpecification {
            version: version.id,
            tenant: api.tenant,
            media_type: specification.media_type.to_owned(),
            content: specification.content.clone(),
            summary,
        };
        store::specification::put(change.tx(), &stored).await?;
        Ok(version)
    }

    /// Lists the versions of an API that the caller may see.
    pub async fn list_versions(
        &self,
        request: &Request,
        api: ApiId,
    ) -> Result<Vec<ApiVersion>, MarketError> {
        self.require(request, Action::ListVersions).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        apis::find_visible(&mut tx, request, api).await?;
        Ok(store::version::list_of(&mut tx, viewer(&request.caller), api).await?)
    }

    /// Approves a version. Whoever submitted it cannot.
    pub async fn approve_version(
        &self,
        request: &Request,
        api: ApiId,
        review: Review,
    ) -> Result<(Api, ApiVersion), MarketError> {
        self.review(request, Action::ApproveVersion, Transition::Approve, api, review).await
    }

    /// Rejects a version. Whoever submitted it cannot.
    pub async fn reject_version(
        &self,
        request: &Request,
        api: ApiId,
        review: Review,
    ) -> Result<(Api, ApiVersion), MarketError> {
        self.review(request, Action::RejectVersion, Transition::Reject, api, review).await
    }

    async fn review(
        &self,
        request: &Request,
        action: Action,
        transition: Transition,
        api: ApiId,
        review: Review,
    ) -> Result<(Api, ApiVersion), MarketError> {
        check_words("comments", &review.comments)?;
        if review.reasons.len() > REASONS_MAX {
            return Err(MarketError::invalid(
                "rejectionReasons",
                format!("must have at most {REASONS_MAX} entries"),
            ));
        }
        for (index, reason) in review.reasons.iter().enumerate() {
            check_words(&format!("rejectionReasons[{index}]"), reason)?;
        }
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(reviewed) => return Ok(reviewed),
        };
        let api = apis::find_own(request, &mut change, api).await?;
        let waits = |version: &ApiVersion| version.status == VersionStatus::PendingApproval;
        let mut version =
            self.find_version(request, &mut change, &api, review.number.as_ref(), waits).await?;
        if version.submitted_by == request.caller.user() {
            return Err(Conflict::OwnSubmission.into());
        }
        let now = self.clock.now();
        version.status = version.status.after(transition).map_err(Conflict::from)?;
        version.decision = Some(Decision {
            by: request.caller.user(),
            at: now,
            comments: review.comments,
            reasons: review.reasons,
        });
        let event = match transition {
            Transition::Approve => EventKind::VersionPublished,
            _ => EventKind::VersionRejected,
        };
        self.store_move(change, event, api, version, now).await
    }

    /// Announces the end of a version.
    pub async fn deprecate_version(
        &self,
        request: &Request,
        api: ApiId,
        deprecation: Deprecation,
    ) -> Result<(Api, ApiVersion), MarketError> {
        let mut change = match self.begin(request, Action::DeprecateVersion).await? {
            Begun::Fresh(change) => change,
            Begun::Done(deprecated) => return Ok(deprecated),
        };
        let api = apis::find_own(request, &mut change, api).await?;
        let is_active = |version: &ApiVersion| version.status == VersionStatus::Active;
        let number = deprecation.number.as_ref();
        let mut version = self.find_version(request, &mut change, &api, number, is_active).await?;
        let now = self.clock.now();
        version.status = version.status.after(Transition::Deprecate).map_err(Conflict::from)?;
        if deprecation.sunset_at.is_some_and(|sunset| sunset <= now) {
            return Err(MarketError::invalid("sunsetAt", "must be in the future"));
        }
        version.successor = match deprecation.successor {
            None => None,
            Some(number) if number == version.number => {
                return Err(MarketError::invalid("successor", "must be another version"));
            }
            Some(number) => {
                let seen = viewer(&request.caller);
                let successor =
                    store::version::find_numbered(change.tx(), seen, api.id, &number).await?;
                let successor = successor.ok_or_else(|| {
                    MarketError::invalid("successor", "is no version of this API")
                })?;
                Some(successor.id)
            }
        };
        version.deprecated_at = Some(now);
        version.sunset_at = deprecation.sunset_at;
        self.store_move(change, EventKind::VersionDeprecated, api, version, now).await
    }

    /// Ends a version: calls are answered with 410 from now on.
    pub async fn retire_version(
        &self,
        request: &Request,
        api: ApiId,
        number: Option<semver::Version>,
    ) -> Result<(Api, ApiVersion), MarketError> {
        let mut change = match self.begin(request, Action::RetireVersion).await? {
            Begun::Fresh(change) => change,
            Begun::Done(retired) => return Ok(retired),
        };
        let api = apis::find_own(request, &mut change, api).await?;
        let runs = |version: &ApiVersion| {
            matches!(version.status, VersionStatus::Active | VersionStatus::Deprecated)
        };
        let mut version =
            self.find_version(request, &mut change, &api, number.as_ref(), runs).await?;
        version.status = version.status.after(Transition::Retire).map_err(Conflict::from)?;
        let now = self.clock.now();
        self.store_move(change, EventKind::VersionRetired, api, version, now).await
    }

    async fn store_move(
        &self,
        mut change: Change<'_>,
        event: EventKind,
        api: Api,
        mut version: ApiVersion,
        now: Timestamp,
    ) -> Result<(Api, ApiVersion), MarketError> {
        version.updated_at = now;
        version.revision += 1;
        store::version::update(change.tx(), &version).await?;
        let details = json!({
            "api": api.id,
            "version": version.number,
            "status": version.status,
            "comments": version.decision.as_ref().map(|decision| &decision.comments),
        });
        change.audit(api.tenant, version.id, details).await?;
        change.announce(api.tenant, EventKind::ApiChanged, &api.id);
        change.announce(api.tenant, event, &version.id);
        change.finish((api, version)).await
    }

    /// The version with this number; without one, the only version that `fits`.
    async fn find_version(
        &self,
        request: &Request,
        change: &mut Change<'_>,
        api: &Api,
        number: Option<&semver::Version>,
        fits: impl Fn(&ApiVersion) -> bool,
    ) -> Result<ApiVersion, MarketError> {
        let seen = viewer(&request.caller);
        let version = if let Some(number) = number {
            store::version::find_numbered(change.tx(), seen, api.id, number)
                .await?
                .ok_or(MarketError::NotFound(Kind::Version))?
        } else {
            let mut fitting = store::version::list_of(change.tx(), seen, api.id).await?;
            fitting.retain(fits);
            match (fitting.pop(), fitting.is_empty()) {
                (Some(version), true) => version,
                (Some(_), false) => {
                    return Err(Conflict::WhichVersion(
                        "there are several for which this is possible",
                    )
                    .into());
                }
                (None, _) => {
                    return Err(
                        Conflict::WhichVersion("there is none for which this is possible").into()
                    );
                }
            }
        };
        request.check_revision(version.revision)?;
        Ok(version)
    }
}

/// The version with this number among those that a caller may see; without one, the newest active one, or else the
/// newest.
pub(crate) fn pick<'a>(
    visible: &'a [ApiVersion],
    number: Option<&semver::Version>,
) -> Result<&'a ApiVersion, MarketError> {
    let found = match number {
        Some(number) => visible.iter().find(|version| version.number == *number),
        None => visible.iter().max_by_key(|version| {
            (
                version.status == VersionStatus::Active,
                version.status.is_published(),
                &version.number,
            )
        }),
    };
    found.ok_or(MarketError::NotFound(Kind::Version))
}

pub(crate) fn check_words(field: &str, words: &str) -> Result<(), MarketError> {
    if words.len() > COMMENTS_MAX {
        return Err(MarketError::invalid(field, format!("must have at most {COMMENTS_MAX} bytes")));
    }
    Ok(())
}
