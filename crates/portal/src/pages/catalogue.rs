//! Which API solves my problem.

use std::ops::Range;

use askama::Template;
use axum::extract::Query;
use market::{ApiListing, CatalogueQuery};
use serde::Deserialize;

use super::{api::current, page};
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
    categories: Vec<Facet>,
    tags: Vec<Facet>,
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
    page: Option<u32>,
}

impl Wanted {
    fn link(&self) -> String {
        let mut parts = Vec::new();
        for (name, value) in [("q", &self.q), ("category", &self.category), ("tag", &self.tag)] {
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
    let chosen = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let found = visit
        .market()
        .search_apis(
            &visit.request,
            CatalogueQuery {
                text: wanted.q.chars().take(200).collect(),
                category: chosen(&wanted.category),
                tag: chosen(&wanted.tag),
                page: number,
                limit: IN_A_PAGE,
            },
        )
        .await?;
    let pages = found.total.div_ceil(IN_A_PAGE.into()).max(1);
    let to = |page: u32| Wanted { page: Some(page), ..wanted.clone() }.link();
    let facet = |label: &str, count: u64, is_chosen: bool, then: Wanted| Facet {
        label: label.to_owned(),
        count,
        link: Wanted { page: None, ..then }.link(),
        is_chosen,
    };
    let toggled =
        |value: &str, is_chosen: bool| if is_chosen { String::new() } else { value.to_owned() };
    let categories = found.categories.iter().map(|(slug, count)| {
        let is_chosen = *slug == wanted.category;
        facet(
            slug,
            *count,
            is_chosen,
            Wanted { category: toggled(slug, is_chosen), ..wanted.clone() },
        )
    });
    let tags = found.tags.iter().take(20).map(|(slug, count)| {
        let is_chosen = *slug == wanted.tag;
        facet(slug, *count, is_chosen, Wanted { tag: toggled(slug, is_chosen), ..wanted.clone() })
    });
    let suggestions = found
        .suggestions
        .iter()
        .map(|text| (text.clone(), Wanted { q: text.clone(), ..Wanted::default() }.link()));
    page(&Catalogue {
        frame,
        total: found.total,
        categories: categories.collect(),
        tags: tags.collect(),
        suggestions: suggestions.collect(),
        is_filtered: !(wanted.q.is_empty() && wanted.category.is_empty() && wanted.tag.is_empty()),
        previous: (number > 1).then(|| to(number - 1)),
        next: (u64::from(number) < pages).then(|| to(number + 1)),
        pages: format!("Page {} of {}", number, grouped(pages)),
        cards: found.hits.into_iter().map(|hit| card(&hit.listing, &hit.highlights)).collect(),
    })
}

fn card(listing: &ApiListing, highlights: &[market::Highlight]) -> Card {
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
