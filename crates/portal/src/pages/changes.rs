//! What a version changes against the one before it: operations that are new, and such that are gone.

use market::ApiListing;
use model::ApiVersion;

use crate::{failure::Failure, visit::Visit};

/// Operations of each kind that are named.
const NAMED: usize = 50;

/// What a version changes.
pub(super) struct Changes {
    /// The number of the version that it is compared with.
    pub(super) before: String,
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
}

impl Changes {
    /// What a version changes against the newest published one before it; none for the first.
    pub(super) async fn of(
        visit: &Visit,
        listing: &ApiListing,
        version: &ApiVersion,
    ) -> Result<Option<Self>, Failure> {
        let Some(before) = earlier(listing, version) else { return Ok(None) };
        let (old, new) =
            (calls(visit, listing, before).await?, calls(visit, listing, version).await?);
        let missing = |from: &[String], of: &[String]| -> Vec<String> {
            of.iter().filter(|call| !from.contains(call)).take(NAMED).cloned().collect()
        };
        Ok(Some(Self {
            before: before.number.to_string(),
            added: missing(&old, &new),
            removed: missing(&new, &old),
        }))
    }
}

fn earlier<'listing>(
    listing: &'listing ApiListing,
    version: &ApiVersion,
) -> Option<&'listing ApiVersion> {
    let published = listing.versions.iter().filter(|other| other.status.is_published());
    published
        .filter(|other| other.number < version.number)
        .max_by(|one, other| one.number.cmp(&other.number))
}

/// Method and path of each operation of a version.
pub(super) async fn calls(
    visit: &Visit,
    listing: &ApiListing,
    version: &ApiVersion,
) -> Result<Vec<String>, Failure> {
    let summary = visit
        .market()
        .read_summary_of(&visit.request, listing.api.id, Some(&version.number))
        .await?;
    let calls = summary.operations.iter();
    Ok(calls
        .map(|operation| format!("{} {}", operation.method.to_uppercase(), operation.path))
        .collect())
}
