//! What needs me.

use askama::Template;
use authz::Action;
use jiff::SignedDuration;
use market::{ApiFilter, ApiListing, ApiSort, Page, Period, SubscriptionFilter};
use model::{CredentialStatus, SubscriptionStatus};

use super::page;
use crate::{
    chart::Sparkline,
    failure::{Answer, Failure},
    format::{Moment, grouped},
    frame::{Frame, Section},
    visit::Visit,
};

/// Applications of which the home page looks at keys and calls.
const APPLICATIONS: u32 = 20;
/// Keys that expire within this time are named.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    tasks: Vec<Task>,
    applications: Vec<Traffic>,
    newest: Vec<ApiListing>,
    may_register: bool,
}

/// Something that waits for somebody.
struct Task {
    text: String,
    detail: String,
    link: String,
    action: &'static str,
}

/// An application, and its calls of a week.
struct Traffic {
    id: String,
    name: String,
    calls: String,
    line: Sparkline,
}

pub(crate) async fn show(visit: Visit) -> Answer {
    let frame = visit.frame(Section::Home, "Home").await?;
    let mut tasks = approvals(&visit).await?;
    let mut applications = Vec::new();
    if visit.may(Action::ListApplications) {
        let all = visit
            .market()
            .list_applications(&visit.request, Page::numbered(1, APPLICATIONS))
            .await?;
        for application in all.items {
            let keys = visit.market().list_credentials(&visit.request, application.id).await?;
            for key in keys {
                let ends = key.expires_at.filter(|end| {
                    let left = end.duration_since(visit.now());
                    key.status == CredentialStatus::Active && left.is_positive() && left < SOON
                });
                if let Some(end) = ends {
                    tasks.push(Task {
                        text: format!(
                            "A key of {} expires {}",
                            application.name,
                            Moment::new(end, visit.now())
                        ),
                        detail: format!("{} ({}…)", key.name, key.prefix),
                        link: format!("/applications/{}", application.id),
                        action: "Rotate it",
                    });
                }
            }
            let usage = visit
                .market()
                .read_application_metrics(&visit.request, application.id, Period::Week)
                .await?;
            applications.push(Traffic {
                id: application.id.to_string(),
                line: Sparkline::new(
                    "Calls",
                    usage.trends.iter().map(|trend| trend.tally.calls).collect(),
                ),
                calls: grouped(usage.total.calls),
                name: application.name.to_string(),
            });
        }
        tasks.extend(waiting(&visit).await?);
    }
    let filter = ApiFilter { sort: ApiSort::Newest, ..ApiFilter::default() };
    let newest =
        visit.market().list_apis(&visit.request, &filter, Page::numbered(1, 5)).await?.items;
    let may_register = visit.may(Action::CreateApplication);
    page(&Home { frame, tasks, applications, newest, may_register })
}

/// What others wait for.
async fn approvals(visit: &Visit) -> Result<Vec<Task>, Failure> {
    if !visit.may(Action::ListApprovals) {
        return Ok(Vec::new());
    }
    let found = visit.market().list_approvals(&visit.request, Page::numbered(1, 1)).await?;
    let mut tasks = Vec::new();
    for (count, what) in [
        (found.subscriptions.total, ("request for access waits", "requests for access wait")),
        (found.versions.total, ("version waits for review", "versions wait for review")),
    ] {
        if count > 0 {
            let words = if count == 1 { what.0 } else { what.1 };
            tasks.push(Task {
                text: format!("{count} {words}"),
                detail: "Somebody cannot go on before you decide.".to_owned(),
                link: "/approvals".to_owned(),
                action: "Decide",
            });
        }
    }
    Ok(tasks)
}

/// What I wait for.
async fn waiting(visit: &Visit) -> Result<Option<Task>, Failure> {
    let filter = SubscriptionFilter {
        status: Some(SubscriptionStatus::Pending),
        ..SubscriptionFilter::default()
    };
    let found =
        visit.market().list_subscriptions(&visit.request, &filter, Page::numbered(1, 1)).await?;
    Ok(found.items.first().filter(|_| !visit.may(Action::ListApprovals)).map(|first| Task {
        text: if found.total == 1 {
            "1 request of yours waits for its API's owner".to_owned()
        } else {
            format!("{} requests of yours wait for their APIs' owners", found.total)
        },
        detail: "You are told here when they have decided.".to_owned(),
        link: format!("/applications/{}", first.application),
        action: "Look",
    }))
}
