//! Other spellings for words that found nothing, from the words of entries that the viewer may
//! see: a word that only others can see is never suggested.

use std::{cmp::Reverse, collections::BTreeSet};

use tantivy::{
    Searcher, Term,
    collector::Count,
    query::{BooleanQuery, FuzzyTermQuery, Query as TantivyQuery},
    schema::Field,
};

use crate::{
    fields::Fields,
    index::SearchError,
    run::exact,
    words::{Word, distance},
};

/// Spellings looked up per word, and texts suggested.
const CANDIDATES: usize = 50;
const SUGGESTIONS: usize = 3;

/// Words with fewer letters have too many neighbours.
const SHORTEST: usize = 3;

/// Texts like that of the search that find something, the likeliest first.
pub(crate) fn suggest(
    searcher: &Searcher,
    fields: &Fields,
    words: &[Word],
    filters: &[Box<dyn TantivyQuery>],
) -> Result<Vec<String>, SearchError> {
    let mut spellings: Vec<Vec<String>> = Vec::new();
    for word in words {
        spellings.push(spellings_of(searcher, fields, word, filters)?);
    }
    if spellings.iter().all(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let most = spellings.iter().map(Vec::len).max().unwrap_or(0).min(SUGGESTIONS);
    let text = |rank: usize| -> String {
        let chosen = words.iter().zip(&spellings).map(|(word, spellings)| {
            let best = spellings.get(rank).or_else(|| spellings.first());
            best.map_or(word.plain.as_str(), String::as_str)
        });
        chosen.collect::<Vec<_>>().join(" ")
    };
    Ok((0..most).map(text).collect())
}

/// Other spellings of a word, nearest and most frequent first; none if the word itself is there.
fn spellings_of(
    searcher: &Searcher,
    fields: &Fields,
    word: &Word,
    filters: &[Box<dyn TantivyQuery>],
) -> Result<Vec<String>, SearchError> {
    if word.plain.chars().count() < SHORTEST
        || visible_entries(searcher, fields, &word.plain, filters)? > 0
    {
        return Ok(Vec::new());
    }
    let edits = if word.allows_typo() { 2 } else { 1 };
    let mut near = BTreeSet::new();
    for field in [fields.name_words, fields.words] {
        collect_near(searcher, field, &word.plain, edits, &mut near)?;
    }
    let mut near: Vec<(usize, String)> =
        near.into_iter().map(|spelling| (distance(&word.plain, &spelling), spelling)).collect();
    near.sort();
    let mut visible = Vec::new();
    for (edits, spelling) in near.into_iter().take(CANDIDATES) {
        let entries = visible_entries(searcher, fields, &spelling, filters)?;
        if entries > 0 {
            visible.push((edits, Reverse(entries), spelling));
        }
    }
    visible.sort();
    Ok(visible.into_iter().map(|(_, _, spelling)| spelling).take(SUGGESTIONS).collect())
}

/// Adds the terms of a field that are at most `edits` away.
fn collect_near(
    searcher: &Searcher,
    field: Field,
    word: &str,
    edits: u8,
    near: &mut BTreeSet<String>,
) -> Result<(), SearchError> {
    let query = FuzzyTermQuery::new(Term::from_field_text(field, word), edits, true);
    for segment in searcher.segment_readers() {
        let inverted = segment.inverted_index(field)?;
        let automaton = query.automaton()?;
        let mut terms = inverted
            .terms()
            .search(automaton)
            .into_stream()
            .map_err(tantivy::TantivyError::from)?;
        while terms.advance() {
            if let Ok(text) = std::str::from_utf8(terms.key()) {
                near.insert(text.to_owned());
            }
        }
    }
    Ok(())
}

fn visible_entries(
    searcher: &Searcher,
    fields: &Fields,
    word: &str,
    filters: &[Box<dyn TantivyQuery>],
) -> Result<usize, SearchError> {
    let somewhere =
        BooleanQuery::union(vec![exact(fields.name_words, word), exact(fields.words, word)]);
    let mut clauses: Vec<Box<dyn TantivyQuery>> = vec![Box::new(somewhere)];
    clauses.extend(filters.iter().map(|filter| filter.box_clone()));
    Ok(searcher.search(&BooleanQuery::intersection(clauses), &Count)?)
}
