//! The guides of `docs/`, as pages.

use askama::Template;
use axum::extract::Path;
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use super::page;
use crate::{
    failure::{Answer, Failure},
    frame::{Frame, Section},
    visit::Visit,
};

/// The guides in the order in which they are listed: the name of the file, and its text.
const GUIDES: [(&str, &str); 16] = [
    ("portal", include_str!("../../../../docs/portal.md")),
    ("publish-and-call", include_str!("../../../../docs/publish-and-call.md")),
    ("validate-requests", include_str!("../../../../docs/validate-requests.md")),
    ("resilience", include_str!("../../../../docs/resilience.md")),
    ("protocols", include_str!("../../../../docs/protocols.md")),
    ("notices", include_str!("../../../../docs/notices.md")),
    ("one-file", include_str!("../../../../docs/one-file.md")),
    ("isolation", include_str!("../../../../docs/isolation.md")),
    ("personal-data", include_str!("../../../../docs/personal-data.md")),
    ("operate", include_str!("../../../../docs/operate.md")),
    ("postgresql", include_str!("../../../../docs/postgresql.md")),
    ("container", include_str!("../../../../docs/container.md")),
    ("behind-a-proxy", include_str!("../../../../docs/behind-a-proxy.md")),
    ("backup", include_str!("../../../../docs/backup.md")),
    ("upgrade", include_str!("../../../../docs/upgrade.md")),
    ("gateways", include_str!("../../../../docs/gateways.md")),
];

#[derive(Template)]
#[template(path = "guides.html")]
struct List {
    frame: Frame,
    guides: Vec<(&'static str, &'static str, &'static str)>,
}

#[derive(Template)]
#[template(path = "guide.html")]
struct Guide {
    frame: Frame,
    text: Rendered,
}

/// A guide as HTML. It is a part of the program, and so nobody's input.
struct Rendered(String);

impl std::fmt::Display for Rendered {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl askama::filters::HtmlSafe for Rendered {}

fn title(text: &'static str) -> &'static str {
    text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
}

pub(crate) async fn list(visit: Visit) -> Answer {
    let frame = visit.frame(Section::Guides, "Guides").await?;
    let first = |text: &'static str| {
        let paragraph =
            text.lines().skip(1).find(|line| !line.is_empty() && !line.starts_with('#'));
        paragraph.unwrap_or_default()
    };
    let guides = GUIDES.iter().map(|(name, text)| (*name, title(text), first(text))).collect();
    page(&List { frame, guides })
}

pub(crate) async fn show(visit: Visit, Path(guide): Path<String>) -> Answer {
    let found = GUIDES.iter().find(|(name, _)| *name == guide).ok_or(Failure::NotFound)?;
    let frame = visit.frame(Section::Guides, title(found.1)).await?;
    page(&Guide { frame, text: render(found.1) })
}

/// Markdown as HTML: links to other guides lead to their pages, headings can be linked to, and pictures are left out.
fn render(text: &str) -> Rendered {
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut is_picture = false;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Image { .. }) => is_picture = true,
            Event::End(TagEnd::Image) => is_picture = false,
            _ if is_picture => {}
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let dest_url = destination(&dest_url);
                events.push(Event::Start(Tag::Link { link_type, dest_url, title, id }));
            }
            Event::End(TagEnd::Heading(level)) => {
                name_heading(&mut events);
                events.push(Event::End(TagEnd::Heading(level)));
            }
            other => events.push(other),
        }
    }
    let mut out = String::new();
    html::push_html(&mut out, events.into_iter());
    // What is too wide is scrolled, by those without a mouse as well; a heading of a column without words is none.
    let out = out.replace("<pre>", "<pre class=\"code\" tabindex=\"0\">");
    Rendered(out.replace("<th></th>", "<td></td>"))
}

fn destination(link: &str) -> CowStr<'static> {
    match link.split_once(".md") {
        Some((name, rest)) if !link.contains("://") && !name.contains('/') => {
            format!("/guides/{name}{rest}").into()
        }
        _ => link.to_owned().into(),
    }
}

/// Gives the last heading the name that links to it use.
fn name_heading(events: &mut [Event<'_>]) {
    let Some(start) =
        events.iter().rposition(|event| matches!(event, Event::Start(Tag::Heading { .. })))
    else {
        return;
    };
    let (before, after) = events.split_at_mut(start + 1);
    let words: String = after
        .iter()
        .filter_map(|event| match event {
            Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
            _ => None,
        })
        .collect();
    if let Some(Event::Start(Tag::Heading { level, id, .. })) = before.last_mut()
        && *level != HeadingLevel::H1
    {
        let name = words.to_lowercase().replace(' ', "-");
        *id = Some(name.replace(|c: char| !c.is_alphanumeric() && c != '-', "").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_guides_lead_to_guides_that_there_are() {
        for (name, text) in GUIDES {
            let html = render(text).0;
            for link in html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let (place, part) = link.split_once('#').unwrap_or((link, ""));
                if link.contains("://") {
                    continue;
                }
                let guide = place.strip_prefix("/guides/").unwrap_or(if place.is_empty() {
                    name
                } else {
                    place
                });
                let found = GUIDES.iter().find(|(known, _)| *known == guide);
                let found = found.unwrap_or_else(|| panic!("{name} leads to {link}"));
                let target = format!("id=\"{part}\"");
                assert!(
                    part.is_empty() || render(found.1).0.contains(&target),
                    "{name} leads to {link}"
                );
            }
        }
    }
}
