//! The pages, one file each.

mod account;
mod admin;
mod agreements;
mod api;
mod applications;
mod approvals;
mod audit;
mod catalogue;
mod changes;
mod failures;
mod guides;
mod home;
mod inbox;
mod publish;
mod reviews;
mod set_up;
pub(crate) mod sign_in;
mod traffic;
mod try_it;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};

use crate::{failure::Failure, serve::Portal};

/// All pages. What is at no address has none.
pub(crate) fn router() -> Router<Arc<Portal>> {
    Router::new()
        .route("/", get(home::show))
        .route("/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/sign-in/code", post(sign_in::submit_code))
        .route("/sign-out", post(sign_in::leave))
        .route("/set-up", get(set_up::show).post(set_up::submit))
        .route("/invitation", get(sign_in::show_invitation).post(sign_in::accept_invitation))
        .route("/catalogue", get(catalogue::show))
        .route("/apis/{api}", get(api::overview))
        .route("/apis/{api}/reference", get(api::reference))
        .route("/apis/{api}/reference/{operation}", get(api::operation))
        .route("/apis/{api}/reference/{operation}/try", get(try_it::show).post(try_it::send))
        .route("/apis/{api}/versions", get(api::versions))
        .route("/apis/{api}/plans", get(api::plans))
        .route("/apis/{api}/reviews", get(reviews::show).post(reviews::write))
        .route("/apis/{api}/reviews/{review}/remove", post(reviews::remove))
        .route("/apis/{api}/access", get(api::ask).post(api::request_access))
        .route("/applications", get(applications::list).post(applications::create))
        .route("/applications/{application}", get(applications::show).post(applications::change))
        .route("/applications/{application}/remove", post(applications::remove))
        .route("/applications/{application}/keys", post(applications::create_key))
        .route("/applications/{application}/keys/{key}/rotate", post(applications::rotate_key))
        .route("/applications/{application}/keys/{key}/revoke", post(applications::revoke_key))
        .route(
            "/applications/{application}/agreements/{agreement}/end",
            post(applications::end_agreement),
        )
        .route("/approvals", get(approvals::list))
        .route(
            "/approvals/agreements/{agreement}",
            get(approvals::agreement).post(approvals::decide_agreement),
        )
        .route(
            "/approvals/versions/{api}/{number}",
            get(approvals::version).post(approvals::decide_version),
        )
        .route("/publish", get(publish::list))
        .route("/publish/new", get(publish::show_new).post(publish::register))
        .route("/publish/{api}", get(publish::show))
        .route("/publish/{api}/versions", post(publish::submit_version))
        .route("/publish/{api}/versions/{number}", post(publish::change_version))
        .route("/publish/{api}/plans", post(publish::create_plan))
        .route("/publish/{api}/deployments", post(publish::deploy))
        .route("/publish/{api}/deployments/{deployment}/remove", post(publish::remove_deployment))
        .route("/traffic", get(traffic::show))
        .route("/traffic.csv", get(traffic::export))
        .route("/agreements", get(agreements::show))
        .route("/agreements.csv", get(agreements::export))
        .route("/audit", get(audit::show))
        .route("/audit.csv", get(audit::export))
        .route("/admin/people", get(admin::people).post(admin::invite))
        .route("/admin/people/{user}", post(admin::change_person))
        .route("/admin/people/{user}/invite", post(admin::reinvite))
        .route("/admin/people/{user}/remove", post(admin::remove_person))
        .route("/admin/organisations", get(admin::tenants).post(admin::create_tenant))
        .route("/admin/organisations/{tenant}", post(admin::change_tenant))
        .route("/admin/categories", get(admin::categories).post(admin::create_category))
        .route("/admin/categories/{category}/remove", post(admin::remove_category))
        .route("/admin/settings", get(admin::settings).post(admin::change_settings))
        .route("/inbox", get(inbox::show))
        .route("/inbox/read-all", post(inbox::read_all))
        .route("/inbox/settings", post(inbox::change_settings))
        .route("/inbox/{notice}", post(inbox::open))
        .route("/guides", get(guides::list))
        .route("/guides/{guide}", get(guides::show))
        .route("/account", get(account::show))
        .route("/account/personal-data.json", get(account::personal_data))
        .route("/account/second-factor", post(account::begin_second_factor))
        .route("/account/second-factor/confirm", post(account::confirm_second_factor))
        .route("/account/second-factor/recovery-codes", post(account::renew_recovery_codes))
        .route("/account/second-factor/remove", post(account::remove_second_factor))
        .route("/account/password", post(account::change_password))
        .route("/account/sessions/{session}/end", post(account::end_session))
        .fallback(|| async { Failure::NotFound })
}

/// A filled template as an answer.
fn page(template: &impl Template) -> Result<Response, Failure> {
    Ok(Html(template.render()?).into_response())
}

/// An identifier out of a path; one that is not well-formed names nothing.
fn id<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_malformed| Failure::NotFound)
}
