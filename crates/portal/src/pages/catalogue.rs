//! Which API solves my problem.

use std::ops::Range;

use askama::Template;
use axum::extract::Query;
use market::{CatalogueHit, CatalogueQuery, Label};
use serde::Deserialize;

use super::{api::current, page, reviews::rated};
use crate::{
    failure::Answer,
    format::{grouped, query},
    frame::{Frame, Section},
    visit::Visit,
};

const IN_A_PAGE: u32 = 20;

#[derive(Template)]
#[template(path = "catalogue.html")]
struct Catalogue {
    frame: Frame,
    total: u64,
    cards: Vec<Card>,
    facets: Vec<(&'static str, Vec<Facet>)>,
    suggestions: Vec<(String, String)>,
    is_filtered: bool,
    previous: Option<String>,
    next: Option<String>,
    pages: String,
}

/// One API in a line or two.
struct Card {
    id: String,
    name: Vec<Piece>,
    description: Vec<Piece>,
    operations: Vec<Piece>,
    owner: String,
    version: String,
    status: &'static str,
    is_phi: bool,
    is_private: bool,
    /// Such as `4.3 of 5, by 12 people`; none without reviews.
    rating: Option<String>,
}

/// A piece of a text, which may be one of the words that were searched for.
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) is_found: bool,
}

/// A heading or tag that narrows the list, or widens it again.
struct Facet {
    label: String,
    count: u64,
    link: String,
    is_chosen: bool,
}

/// What the address says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    q: String,
    category: String,
    tag: String,
    owner: String,
    data: String,
    status: String,
    page: Option<u32>,
}

/// What the list can be narrowed by: in words, and in the address.
const LABELS: [(Label, &str, &str); 5] = [
    (Label::Category, "Categories", "category"),
    (Label::PersonalData, "Personal data", "data"),
    (Label::Status, "Status", "status"),
    (Label::Owner, "Owners", "owner"),
    (Label::Tag, "Tags", "tag"),
];

/// Values of a label that are shown.
const VALUES: usize = 20;

impl Wanted {
    fn value(&self, label: Label) -> &String {
        match label {
            Label::Category => &self.category,
            Label::Tag => &self.tag,
            Label::Owner => &self.owner,
            Label::PersonalData => &self.data,
            Label::Status => &self.status,
        }
    }

    /// The first page with another value of a label.
    fn with(&self, label: Label, value: &str) -> Self {
        let mut other = Self { page: None, ..self.clone() };
        let slot = match label {
            Label::Category => &mut other.category,
            Label::Tag => &mut other.tag,
            Label::Owner => &mut other.owner,
            Label::PersonalData => &mut other.data,
            Label::Status => &mut other.status,
        };
        value.clone_into(slot);
        other
    }

    fn link(&self) -> String {
        let mut parts = Vec::new();
        let labels = LABELS.map(|(label, _, name)| (name, self.value(label)));
        for (name, value) in std::iter::once(("q", &self.q)).chain(labels) {
            if !value.is_empty() {
                parts.push(format!("{name}={}", query(value)));
            }
        }
        if let Some(page) = self.page.filter(|page| *page > 1) {
            parts.push(format!("page={page}"));
        }
        if parts.is_empty() {
            "/catalogue".to_owned()
        } else {
            format!("/catalogue?{}", parts.join("&"))
        }
    }
}

pub(crate) async fn show(visit: Visit, Query(wanted): Query<Wanted>) -> Answer {
    let mut frame = visit.frame(Section::Catalogue, "Catalogue").await?;
    frame.query.clone_from(&wanted.q);
    let number = wanted.page.unwrap_or(1).clamp(1, 10_000);
    let chosen = LABELS.iter().map(|(label, ..)| (*label, wanted.value(*label).clone()));
    let found = visit
        .market()
        .search_apis(
            &visit.request,
            CatalogueQuery {
                text: wanted.q.chars().take(200).collect(),
                only: chosen.filter(|(_, value)| !value.is_empty()).collect(),
                page: number,
                limit: IN_A_PAGE,
            },
        )
        .await?;
    let pages = found.total.div_ceil(IN_A_PAGE.into()).max(1);
    let to = |page: u32| Wanted { page: Some(page), ..wanted.clone() }.link();
    let facets = LABELS.iter().filter_map(|(label, title, _)| {
        let values = found.facets.get(label)?.iter().take(VALUES);
        let values: Vec<Facet> = values
            .map(|(value, count)| {
                let is_chosen = value == wanted.value(*label);
                Facet {
                    label: in_words(*label, value),
                    count: *count,
                    link: wanted.with(*label, if is_chosen { "" } else { value }).link(),
                    is_chosen,
                }
            })
            .collect();
        // What all have in common narrows nothing.
        let is_useful = values.iter().any(|value| value.is_chosen || value.count < found.total)
            || values.len() > 1;
        is_useful.then_some((*title, values))
    });
    let suggestions = found
        .suggestions
        .iter()
        .map(|text| (text.clone(), Wanted { q: text.clone(), ..Wanted::default() }.link()));
    page(&Catalogue {
        frame,
        total: found.total,
        facets: facets.collect(),
        suggestions: suggestions.collect(),
        is_filtered: Wanted { page: None, ..wanted.clone() }.link() != "/catalogue",
        previous: (number > 1).then(|| to(number - 1)),
        next: (u64::from(number) < pages).then(|| to(number + 1)),
        pages: format!("Page {} of {}", number, grouped(pages)),
        cards: found.hits.iter().map(card).collect(),
    })
}

/// A value as people call it.
fn in_words(label: Label, value: &str) -> String {
    let words = match (label, value) {
        (Label::PersonalData, "phi") => "health data of patients",
        (Label::PersonalData, "pii") => "other personal data",
        (Label::Status, "pending_approval") => "pending",
        (_, value) => value,
    };
    words.to_owned()
}

fn card(hit: &CatalogueHit) -> Card {
    let CatalogueHit { listing, highlights, .. } = hit;
    let api = &listing.api;
    let found = |field: &str| {
        let of = highlights.iter().find(|highlight| highlight.field == field);
        of.map(|highlight| pieces(&highlight.fragment, &highlight.ranges))
    };
    let plain = |text: &str| vec![Piece { text: first_words(text), is_found: false }];
    let version = current(&listing.versions);
    Card {
        id: api.id.to_string(),
        name: found("name").unwrap_or_else(|| plain(api.name.as_str())),
        description: found("description").unwrap_or_else(|| plain(&api.description)),
        operations: found("operations").unwrap_or_default(),
        owner: api.owner.name.to_string(),
        version: version.map_or_else(String::new, |version| version.number.to_string()),
        status: version.map_or("draft", |version| version.status.as_str()),
        is_phi: api.classification.contains_phi,
        is_private: matches!(api.visibility, model::Visibility::Private),
        rating: rated(hit.rating),
    }
}

/// A text in pieces, by where the words are that were searched for.
fn pieces(text: &str, ranges: &[Range<usize>]) -> Vec<Piece> {
    let (mut pieces, mut end) = (Vec::new(), 0);
    let mut add = |range: Range<usize>, is_found| {
        let text = text.get(range).unwrap_or_default().to_owned();
        if !text.is_empty() {
            pieces.push(Piece { text, is_found });
        }
    };
    for range in ranges {
        if range.start < end {
            continue;
        }
        add(end..range.start, false);
        add(range.clone(), true);
        end = range.end;
    }
    add(end..text.len(), false);
    pieces
}

/// The beginning of a description, for a line or two.
fn first_words(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(180) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_were_searched_for_are_pieces_of_their_own() {
        let told: Vec<_> = pieces("the patient list", &[Range { start: 4, end: 11 }])
            .into_iter()
            .map(|piece| (piece.text, piece.is_found))
            .collect();
        let expected = [("the ", false), ("patient", true), (" list", false)];
        assert_eq!(told, expected.map(|(text, found)| (text.to_owned(), found)));
    }
}
