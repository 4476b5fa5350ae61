//! The first page of an empty installation: its first organisation and administrator.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Request, State},
    response::{Html, IntoResponse},
};
use http::StatusCode;
use market::{MarketError, SetUpDraft};
use model::{Email, Name, Slug};

use super::sign_in::told;
use crate::{
    failure::{Answer, redirect, sentence},
    form::{Form, LARGEST_OF_STRANGERS},
    serve::{Portal, RequestId},
    visit::address,
};

#[derive(Template)]
#[template(path = "set_up.html")]
struct SetUp<'page> {
    style: &'page str,
    icon: &'page str,
    typed: Typed,
    problem: Option<String>,
}

/// What was typed, but for the password.
#[derive(Default)]
struct Typed {
    token: String,
    organisation: String,
    slug: String,
    name: String,
    email: String,
}

pub(crate) async fn show(State(portal): State<Arc<Portal>>) -> Answer {
    if portal.market.is_set_up().await? {
        return Ok(redirect("/sign-in"));
    }
    page(&portal, StatusCode::OK, Typed::default(), None)
}

/// Sets the installation up with the one-time token that the server has printed.
pub(crate) async fn submit(State(portal): State<Arc<Portal>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let (address, id) = (address(&parts), parts.extensions.get::<RequestId>().cloned());
    let request_id = id.map_or_else(String::new, |id| id.0);
    let sent = Form::read(Request::from_parts(parts, body), LARGEST_OF_STRANGERS).await?;
    let text = |name| sent.text(name).to_owned();
    let typed = Typed {
        token: text("token"),
        organisation: text("organisation"),
        slug: text("slug"),
        name: text("name"),
        email: text("email"),
    };
    let password = sent.raw("password");
    let problem = if password == sent.raw("password-again") {
        match typed.draft(password) {
            Err(problem) => problem,
            Ok(draft) => {
                let made = portal.market.set_up(&typed.token, draft, &address, &request_id).await;
                match made {
                    Ok(_) | Err(MarketError::Conflict(_)) => return Ok(redirect("/sign-in")),
                    Err(MarketError::Unauthenticated) => {
                        "This is not the token that the server printed when it last started."
                            .to_owned()
                    }
                    Err(MarketError::Invalid(violations)) => told(&violations),
                    Err(other) => return Err(other.into()),
                }
            }
        }
    } else {
        "The two passwords are not the same.".to_owned()
    };
    page(&portal, StatusCode::UNPROCESSABLE_ENTITY, typed, Some(problem))
}

impl Typed {
    fn draft(&self, password: &str) -> Result<SetUpDraft, String> {
        let wrong = |what: &str, error: model::InvalidText| sentence(&format!("{what} {error}"));
        Ok(SetUpDraft {
            tenant_slug: Slug::parse(&self.slug)
                .map_err(|error| wrong("The short name of the organisation", error))?,
            tenant_name: Name::parse(&self.organisation)
                .map_err(|error| wrong("The name of the organisation", error))?,
            email: Email::parse(&self.email).map_err(|error| wrong("The e-mail address", error))?,
            name: Name::parse(&self.name).map_err(|error| wrong("Your name", error))?,
            password: password.to_owned(),
        })
    }
}

fn page(portal: &Portal, status: StatusCode, typed: Typed, problem: Option<String>) -> Answer {
    let page =
        SetUp { style: &portal.assets.style.path, icon: &portal.assets.icon.path, typed, problem };
    Ok((status, Html(page.render()?)).into_response())
}
