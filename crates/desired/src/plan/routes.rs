//! The routes of the control API that steps take, each with what the permission table calls it.

use authz::Action;
use reqwest::Method;

/// A route.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) action: Action,
    pub(crate) method: Method,
    /// With `{}` where the id of the target stands.
    pub(crate) path: &'static str,
}

const fn route(action: Action, method: Method, path: &'static str) -> Route {
    Route { action, method, path }
}

pub(super) const REPLACE_SETTINGS: Route =
    route(Action::ReplaceSettings, Method::PUT, "/admin/settings");
pub(super) const CREATE_CATEGORY: Route =
    route(Action::CreateCategory, Method::POST, "/admin/categories");
pub(super) const REPLACE_CATEGORY: Route =
    route(Action::ReplaceCategory, Method::PUT, "/admin/categories/{}");
pub(super) const REMOVE_CATEGORY: Route =
    route(Action::RemoveCategory, Method::DELETE, "/admin/categories/{}");
pub(super) const CREATE_TENANT: Route = route(Action::CreateTenant, Method::POST, "/admin/tenants");
pub(super) const REPLACE_TENANT: Route =
    route(Action::ReplaceTenant, Method::PUT, "/admin/tenants/{}");
pub(super) const INVITE_USER: Route = route(Action::InviteUser, Method::POST, "/admin/users");
pub(super) const REPLACE_USER: Route = route(Action::ReplaceUser, Method::PUT, "/admin/users/{}");
pub(super) const REMOVE_USER: Route = route(Action::RemoveUser, Method::DELETE, "/admin/users/{}");
pub(super) const REGISTER_API: Route = route(Action::RegisterApi, Method::POST, "/apis");
pub(super) const REPLACE_API: Route = route(Action::ReplaceApi, Method::PUT, "/apis/{}");
pub(super) const REMOVE_API: Route = route(Action::RemoveApi, Method::DELETE, "/apis/{}");
pub(super) const SUBMIT_VERSION: Route =
    route(Action::SubmitVersion, Method::POST, "/apis/{}/versions");
pub(super) const APPROVE_VERSION: Route =
    route(Action::ApproveVersion, Method::POST, "/apis/{}/approve");
pub(super) const DEPRECATE_VERSION: Route =
    route(Action::DeprecateVersion, Method::POST, "/apis/{}/deprecate");
pub(super) const RETIRE_VERSION: Route =
    route(Action::RetireVersion, Method::POST, "/apis/{}/retire");
pub(super) const CREATE_PLAN: Route = route(Action::CreatePlan, Method::POST, "/plans");
pub(super) const REPLACE_PLAN: Route = route(Action::ReplacePlan, Method::PUT, "/plans/{}");
pub(super) const REMOVE_PLAN: Route = route(Action::RemovePlan, Method::DELETE, "/plans/{}");
pub(super) const DEPLOY: Route = route(Action::Deploy, Method::POST, "/deployments");
pub(super) const REPLACE_DEPLOYMENT: Route =
    route(Action::ReplaceDeployment, Method::PUT, "/deployments/{}");
pub(super) const REMOVE_DEPLOYMENT: Route =
    route(Action::RemoveDeployment, Method::DELETE, "/deployments/{}");
pub(super) const CREATE_APPLICATION: Route =
    route(Action::CreateApplication, Method::POST, "/applications");
pub(super) const REPLACE_APPLICATION: Route =
    route(Action::ReplaceApplication, Method::PUT, "/applications/{}");
pub(super) const REMOVE_APPLICATION: Route =
    route(Action::RemoveApplication, Method::DELETE, "/applications/{}");
pub(super) const REQUEST_SUBSCRIPTION: Route =
    route(Action::RequestSubscription, Method::POST, "/subscriptions");
pub(super) const APPROVE_SUBSCRIPTION: Route =
    route(Action::ApproveSubscription, Method::POST, "/subscriptions/{}/approve");
pub(super) const SUSPEND_SUBSCRIPTION: Route =
    route(Action::SuspendSubscription, Method::POST, "/subscriptions/{}/suspend");
pub(super) const CANCEL_SUBSCRIPTION: Route =
    route(Action::CancelSubscription, Method::POST, "/subscriptions/{}/cancel");
