//! Who may do what here: people, organisations, categories and settings.

use askama::Template;
use authz::Action;
use axum::extract::Path;
use http::StatusCode;
use market::{
    CategoryDraft, InstallationSettings, InvitedUser, MarketError, Page, TenantChange, TenantDraft,
    UserChange, UserDraft,
};
use model::{Category, Email, Name, Role, Roles, Slug, Tenant, TenantId, User, UserStatus};

use super::{id, page, sign_in::told};
use crate::{
    failure::{Answer, Failure, sentence},
    form::Form,
    format::Moment,
    frame::{Flash, Frame, Section, role_name},
    visit::{Submission, Visit},
};

#[derive(Template)]
#[template(path = "admin_people.html")]
struct People {
    frame: Frame,
    tabs: Tabs,
    people: Vec<Person>,
    total: u64,
    roles: Vec<(&'static str, &'static str)>,
    tenants: Vec<(String, String)>,
    typed: Form,
    problem: Option<String>,
    /// Somebody who was just invited, and the code to tell them.
    invited: Option<(String, String, Moment)>,
}

struct Person {
    id: String,
    name: String,
    email: String,
    roles: String,
    role_ids: Vec<&'static str>,
    status: &'static str,
    revision: i64,
    is_me: bool,
}

#[derive(Template)]
#[template(path = "admin_tenants.html")]
struct Tenants {
    frame: Frame,
    tabs: Tabs,
    tenants: Vec<Tenant>,
    may_create: bool,
    typed: Form,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "admin_categories.html")]
struct Categories {
    frame: Frame,
    tabs: Tabs,
    categories: Vec<Category>,
    typed: Form,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "admin_settings.html")]
struct Settings {
    frame: Frame,
    tabs: Tabs,
    name: String,
    support: String,
    days: String,
    audit_days: String,
    legal_hold: bool,
    revision: i64,
    problem: Option<String>,
}

/// Which parts of the administration the caller may use.
struct Tabs {
    current: &'static str,
    tenants: bool,
    categories: bool,
    settings: bool,
}

impl Tabs {
    fn of(visit: &Visit, current: &'static str) -> Self {
        Self {
            current,
            tenants: visit.may(Action::CreateTenant),
            categories: visit.may(Action::CreateCategory),
            settings: visit.may(Action::ReplaceSettings),
        }
    }
}

const fn status_of(problem: Option<&String>) -> StatusCode {
    if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
}

fn answer(template: &impl Template, status: StatusCode) -> Answer {
    let mut response = page(template)?;
    *response.status_mut() = status;
    Ok(response)
}

/// What is wrong with a form, for whoever filled it in; other failures are passed on.
fn explained(error: MarketError) -> Result<String, Failure> {
    match error {
        MarketError::Invalid(violations) => Ok(told(&violations)),
        MarketError::Conflict(conflict) => Ok(sentence(&conflict.to_string())),
        other => Err(other.into()),
    }
}

pub(crate) async fn people(visit: Visit) -> Answer {
    people_with(&visit, Form::default(), None, None).await
}

async fn people_with(
    visit: &Visit,
    typed: Form,
    problem: Option<String>,
    invited: Option<(String, String, Moment)>,
) -> Answer {
    let found = visit.market().list_users(&visit.request, Page::numbered(1, 200)).await?;
    let frame = visit.frame(Section::Administration, "People").await?;
    let tenants =
        if visit.may(Action::CreateTenant) { tenants_of(visit).await? } else { Vec::new() };
    let offered =
        |role: &Role| *role != Role::PlatformAdmin || visit.request.caller.is_platform_admin();
    let roles = all_roles().filter(offered).map(|role| (role.as_str(), role_name(role)));
    let person = |user: &User| Person {
        id: user.id.to_string(),
        name: user.name.to_string(),
        email: user.email.to_string(),
        roles: user.roles.iter().map(role_name).collect::<Vec<_>>().join(", "),
        role_ids: user.roles.iter().map(Role::as_str).collect(),
        status: match user.status {
            UserStatus::Invited => "invited",
            UserStatus::Active => "active",
            UserStatus::Disabled => "disabled",
        },
        revision: user.revision,
        is_me: user.id == visit.request.caller.user(),
    };
    let status = status_of(problem.as_ref());
    let page = People {
        tabs: Tabs::of(visit, "people"),
        people: found.items.iter().map(person).collect(),
        total: found.total,
        roles: roles.collect(),
        tenants: tenants
            .iter()
            .map(|tenant| (tenant.id.to_string(), tenant.name.to_string()))
            .collect(),
        frame,
        typed,
        problem,
        invited,
    };
    answer(&page, status)
}

fn all_roles() -> impl Iterator<Item = Role> {
    [
        Role::Consumer,
        Role::Provider,
        Role::Reviewer,
        Role::Auditor,
        Role::TenantAdmin,
        Role::PlatformAdmin,
    ]
    .into_iter()
}

async fn tenants_of(visit: &Visit) -> Result<Vec<Tenant>, Failure> {
    Ok(visit.market().list_tenants(&visit.request, Page::numbered(1, 200)).await?.items)
}

/// The roles that were ticked.
fn ticked(form: &Form) -> Roles {
    let chosen: Vec<Role> =
        all_roles().filter(|role| form.raw(&format!("role-{}", role.as_str())) == "yes").collect();
    Roles::of(&chosen)
}

pub(crate) async fn invite(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let email = Email::parse(form.text("email"));
    let name = Name::parse(form.text("name"));
    let (email, name) = match (email, name) {
        (Ok(email), Ok(name)) => (email, name),
        (Err(error), _) => {
            let problem = sentence(&format!("The e-mail address {error}"));
            return people_with(visit, form.clone(), Some(problem), None).await;
        }
        (_, Err(error)) => {
            let problem = sentence(&format!("The name {error}"));
            return people_with(visit, form.clone(), Some(problem), None).await;
        }
    };
    let tenant = form.filled("tenant").map(id::<TenantId>).transpose()?;
    let draft = UserDraft { tenant, email, name, roles: ticked(form) };
    match visit.market().invite_user(&visit.request, draft).await {
        Ok(invited) => show_code(visit, invited).await,
        Err(error) => people_with(visit, form.clone(), Some(explained(error)?), None).await,
    }
}

pub(crate) async fn reinvite(Path(user): Path<String>, submission: Submission) -> Answer {
    let visit = &submission.visit;
    match visit.market().reinvite_user(&visit.request, id(&user)?).await {
        Ok(invited) => show_code(visit, invited).await,
        Err(error) => people_with(visit, Form::default(), Some(explained(error)?), None).await,
    }
}

async fn show_code(visit: &Visit, invited: InvitedUser) -> Answer {
    let until = visit.moment(invited.invitation_expires_at);
    let shown = (invited.user.name.to_string(), invited.invitation_token, until);
    people_with(visit, Form::default(), None, Some(shown)).await
}

pub(crate) async fn change_person(Path(user): Path<String>, submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let known = visit.market().read_user(&visit.request, id(&user)?).await?;
    let wanted = UserChange {
        name: known.name,
        roles: ticked(form),
        is_active: form.raw("active") == "yes",
    };
    match visit.market().change_user(&visit.request, Action::ChangeUser, known.id, wanted).await {
        Ok(_) => Ok(visit.done(Flash::Saved, "/admin/people")),
        Err(error) => people_with(visit, Form::default(), Some(explained(error)?), None).await,
    }
}

pub(crate) async fn remove_person(Path(user): Path<String>, submission: Submission) -> Answer {
    let visit = &submission.visit;
    match visit.market().remove_user(&visit.request, id(&user)?).await {
        Ok(()) => Ok(visit.done(Flash::Removed, "/admin/people")),
        Err(error) => people_with(visit, Form::default(), Some(explained(error)?), None).await,
    }
}

pub(crate) async fn tenants(visit: Visit) -> Answer {
    visit.market().require(&visit.request, Action::CreateTenant).await?;
    tenants_with(&visit, Form::default(), None).await
}

async fn tenants_with(visit: &Visit, typed: Form, problem: Option<String>) -> Answer {
    let frame = visit.frame(Section::Administration, "Organisations").await?;
    let status = status_of(problem.as_ref());
    let page = Tenants {
        tabs: Tabs::of(visit, "tenants"),
        tenants: tenants_of(visit).await?,
        may_create: visit.may(Action::CreateTenant),
        frame,
        typed,
        problem,
    };
    answer(&page, status)
}

pub(crate) async fn create_tenant(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let draft = match (Slug::parse(form.text("slug")), Name::parse(form.text("name"))) {
        (Ok(slug), Ok(name)) => TenantDraft { slug, name },
        (Err(error), _) => {
            let problem = sentence(&format!("The short name {error}"));
            return tenants_with(visit, form.clone(), Some(problem)).await;
        }
        (_, Err(error)) => {
            return tenants_with(visit, form.clone(), Some(sentence(&format!("The name {error}"))))
                .await;
        }
    };
    match visit.market().create_tenant(&visit.request, draft).await {
        Ok(_) => Ok(visit.done(Flash::Saved, "/admin/organisations")),
        Err(error) => tenants_with(visit, form.clone(), Some(explained(error)?)).await,
    }
}

pub(crate) async fn change_tenant(Path(tenant): Path<String>, submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let known = visit.market().read_tenant(&visit.request, id(&tenant)?).await?;
    let wanted =
        TenantChange { slug: known.slug, name: known.name, is_active: form.raw("active") == "yes" };
    match visit.market().change_tenant(&visit.request, Action::ChangeTenant, known.id, wanted).await
    {
        Ok(_) => Ok(visit.done(Flash::Saved, "/admin/organisations")),
        Err(error) => tenants_with(visit, Form::default(), Some(explained(error)?)).await,
    }
}

pub(crate) async fn categories(visit: Visit) -> Answer {
    visit.market().require(&visit.request, Action::CreateCategory).await?;
    categories_with(&visit, Form::default(), None).await
}

async fn categories_with(visit: &Visit, typed: Form, problem: Option<String>) -> Answer {
    let frame = visit.frame(Section::Administration, "Categories").await?;
    let status = status_of(problem.as_ref());
    let categories = visit.market().list_categories(&visit.request).await?;
    let tabs = Tabs::of(visit, "categories");
    answer(&Categories { frame, tabs, categories, typed, problem }, status)
}

pub(crate) async fn create_category(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let draft = match (Slug::parse(form.text("slug")), Name::parse(form.text("name"))) {
        (Ok(slug), Ok(name)) => {
            CategoryDraft { slug, name, description: form.text("description").to_owned() }
        }
        (Err(error), _) => {
            let problem = sentence(&format!("The short name {error}"));
            return categories_with(visit, form.clone(), Some(problem)).await;
        }
        (_, Err(error)) => {
            return categories_with(
                visit,
                form.clone(),
                Some(sentence(&format!("The name {error}"))),
            )
            .await;
        }
    };
    match visit.market().create_category(&visit.request, draft).await {
        Ok(_) => Ok(visit.done(Flash::Saved, "/admin/categories")),
        Err(error) => categories_with(visit, form.clone(), Some(explained(error)?)).await,
    }
}

pub(crate) async fn remove_category(
    Path(category): Path<String>,
    submission: Submission,
) -> Answer {
    let visit = &submission.visit;
    match visit.market().remove_category(&visit.request, id(&category)?).await {
        Ok(()) => Ok(visit.done(Flash::Removed, "/admin/categories")),
        Err(error) => categories_with(visit, Form::default(), Some(explained(error)?)).await,
    }
}

pub(crate) async fn settings(visit: Visit) -> Answer {
    settings_with(&visit, None, None).await
}

async fn settings_with(visit: &Visit, typed: Option<&Form>, problem: Option<String>) -> Answer {
    visit.market().require(&visit.request, Action::ReplaceSettings).await?;
    let (known, revision) = visit.market().read_settings(&visit.request).await?;
    let frame = visit.frame(Section::Administration, "Settings").await?;
    let shown =
        |field: &str, stored: String| typed.map_or(stored, |form| form.text(field).to_owned());
    let status = status_of(problem.as_ref());
    let page = Settings {
        tabs: Tabs::of(visit, "settings"),
        name: shown("name", known.name.to_string()),
        support: shown(
            "support",
            known.support_email.map(|email| email.to_string()).unwrap_or_default(),
        ),
        days: shown("days", known.usage_retention_days.to_string()),
        audit_days: shown(
            "audit-days",
            known.audit_retention_days.map(|days| days.to_string()).unwrap_or_default(),
        ),
        legal_hold: typed.map_or(known.legal_hold, |form| form.text("legal-hold") == "yes"),
        frame,
        revision,
        problem,
    };
    answer(&page, status)
}

pub(crate) async fn change_settings(submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let wrong = |text: String| settings_with(visit, Some(form), Some(text));
    let name = match Name::parse(form.text("name")) {
        Ok(name) => name,
        Err(error) => return wrong(sentence(&format!("The name {error}"))).await,
    };
    let support_email = match form.filled("support").map(Email::parse).transpose() {
        Ok(email) => email,
        Err(error) => return wrong(sentence(&format!("The e-mail address {error}"))).await,
    };
    let Ok(usage_retention_days) = form.text("days").parse() else {
        return wrong("The number of days must be a whole number.".to_owned()).await;
    };
    let Ok(audit_retention_days) = form.filled("audit-days").map(str::parse).transpose() else {
        return wrong("The days of the audit trail must be a whole number.".to_owned()).await;
    };
    let legal_hold = form.text("legal-hold") == "yes";
    let settings = InstallationSettings {
        name,
        support_email,
        usage_retention_days,
        audit_retention_days,
        legal_hold,
    };
    match visit.market().replace_settings(&visit.request, Action::ReplaceSettings, settings).await {
        Ok(_) => Ok(visit.done(Flash::Saved, "/admin/settings")),
        Err(MarketError::Stale) => {
            let text = "Somebody else has changed the settings while you were typing. What you typed is below; save again to \
                        put it in place of theirs.";
            wrong(text.to_owned()).await
        }
        Err(error) => wrong(explained(error)?).await,
    }
}
