//! From a search to its results.
//!
//! A word is worth most in the name, then in tags, description and operations, and there most as
//! it is, then as a prefix, then with a typing error. These steps are constants, so that frequent
//! words do not turn them around; how rare a word is decides among equals.

use model::ApiId;
use tantivy::{
    DocAddress, Order, Searcher, TantivyDocument, Term,
    collector::{Count, FacetCollector, FacetCounts, MultiCollector, TopDocs},
    query::{
        AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, FuzzyTermQuery,
        Occur, Query as TantivyQuery, TermQuery,
    },
    schema::{Field, IndexRecordOption, Value},
};

use crate::{
    fields::{EVERYONE, Fields, UPDATED, facet},
    highlight::{HighlightedField, highlight},
    index::{CatalogueIndex, SearchError},
    query::{Facets, Hit, Query, Results, Viewer},
    suggest::suggest,
    words::{Word, words},
};

/// Bytes of a text that are looked at.
const LONGEST_TEXT: usize = 512;

/// Hits per page and pages at most.
const LARGEST_PAGE: usize = 100;
const LAST_PAGE: usize = 1_000;

/// Values listed per facet.
const FACET_VALUES: usize = 50;

impl CatalogueIndex {
    /// Finds entries that the viewer may see.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    pub fn search(&self, query: &Query) -> Result<Results, SearchError> {
        let text = &query.text[..query.text.floor_char_boundary(LONGEST_TEXT)];
        let words = words(text);
        let searcher = self.reader.searcher();
        let filters = self.fields.filters(query);
        let has_words = text.chars().any(char::is_alphanumeric);
        if has_words && words.is_empty() {
            return Ok(Results::default());
        }
        let mut clauses: Vec<(Occur, Box<dyn TantivyQuery>)> =
            filters.iter().map(|filter| (Occur::Must, filter.box_clone())).collect();
        if !words.is_empty() {
            clauses.push((Occur::Must, self.fields.text_query(&words)));
        }
        clauses.push((Occur::Must, Box::new(ConstScoreQuery::new(Box::new(AllQuery), 0.0))));
        let found = BooleanQuery::new(clauses);
        let limit = query.limit.min(LARGEST_PAGE);
        let page = TopDocs::with_limit(limit.max(1)).and_offset(query.page.min(LAST_PAGE) * limit);
        let mut facets = MultiCollector::new();
        let handles = self.fields.facets.map(|(label, name, _)| {
            let mut collector = FacetCollector::for_field(name);
            collector.add_facet("/");
            (label, facets.add_collector(collector))
        });
        let others = (Count, facets);
        let (ranked, (total, mut fruit)) = if words.is_empty() {
            let newest = page.order_by_fast_field::<i64>(UPDATED, Order::Desc);
            let (newest, others) = searcher.search(&found, &(newest, others))?;
            (newest.into_iter().map(|(_, address)| (0.0, address)).collect(), others)
        } else {
            searcher.search(&found, &(page.order_by_score(), others))?
        };
        let facets: Facets = handles
            .into_iter()
            .map(|(label, handle)| (label, most_frequent(&handle.extract(&mut fruit))))
            .filter(|(_, values)| !values.is_empty())
            .collect();
        let mut results = Results {
            hits: Vec::new(),
            total: u64::try_from(total).unwrap_or(u64::MAX),
            facets,
            suggestions: Vec::new(),
        };
        for (score, address) in ranked.into_iter().take(limit) {
            results.hits.extend(self.fields.hit(&searcher, score, address, &words)?);
        }
        if total == 0 && !words.is_empty() {
            results.suggestions = suggest(&searcher, &self.fields, &words, &filters)?;
        }
        Ok(results)
    }
}

impl Fields {
    /// What an entry has to be, whatever its text.
    fn filters(&self, query: &Query) -> Vec<Box<dyn TantivyQuery>> {
        let mut filters: Vec<Box<dyn TantivyQuery>> = Vec::new();
        let audience = |name: &str| exact(self.audience, name);
        match query.viewer {
            Viewer::Everything => {}
            Viewer::Anonymous => filters.push(audience(EVERYONE)),
            Viewer::Tenant(tenant) => {
                filters.push(any_of(vec![audience(EVERYONE), audience(&tenant.to_string())]));
            }
        }
        for (label, value) in &query.only {
            let fields = self.facets.iter().filter(|(known, ..)| known == label);
            filters.extend(fields.map(|(.., field)| facet_query(*field, value)));
        }
        filters
            .into_iter()
            .map(|filter| -> Box<dyn TantivyQuery> { Box::new(ConstScoreQuery::new(filter, 0.0)) })
            .collect()
    }

    /// Entries with the words: both of two, three of four.
    fn text_query(&self, words: &[Word]) -> Box<dyn TantivyQuery> {
        let queries = words.iter().map(|word| self.word_query(word)).collect();
        let required = if words.len() <= 2 { words.len() } else { words.len() - words.len() / 3 };
        Box::new(BooleanQuery::union_with_minimum_required_clauses(queries, required))
    }

    fn word_query(&self, word: &Word) -> Box<dyn TantivyQuery> {
        let stem = word.stem.as_deref().unwrap_or(&word.plain);
        let fields = [
            (self.name, 40.0),
            (self.tags, 24.0),
            (self.description, 10.0),
            (self.owner, 8.0),
            (self.operations, 5.0),
        ];
        let mut ways: Vec<Box<dyn TantivyQuery>> = fields
            .iter()
            .map(|(field, worth)| worth_of(term(*field, stem, IndexRecordOption::Basic), *worth))
            .collect();
        // Words that are not stemmed away or left out as too frequent.
        ways.push(worth_of(exact(self.name_words, &word.plain), 40.0));
        ways.push(worth_of(exact(self.words, &word.plain), 5.0));
        if word.is_prefix {
            ways.push(worth_of(prefix(self.name_words, &word.plain), 20.0));
            ways.push(worth_of(prefix(self.words, &word.plain), 3.0));
        }
        if word.allows_typo() {
            ways.push(worth_of(typo(self.name_words, &word.plain), 8.0));
            ways.push(worth_of(typo(self.words, &word.plain), 1.0));
        }
        let best = DisjunctionMaxQuery::with_tie_breaker(ways, 0.1);
        let mut clauses: Vec<(Occur, Box<dyn TantivyQuery>)> = vec![(Occur::Must, Box::new(best))];
        for (field, _) in fields {
            let rarity = term(field, stem, IndexRecordOption::WithFreqs);
            clauses.push((Occur::Should, Box::new(BoostQuery::new(rarity, 0.2))));
        }
        Box::new(BooleanQuery::new(clauses))
    }

    fn hit(
        &self,
        searcher: &Searcher,
        score: f32,
        address: DocAddress,
        words: &[Word],
    ) -> Result<Option<Hit>, SearchError> {
        let document: TantivyDocument = searcher.doc(address)?;
        let text =
            |field| document.get_first(field).and_then(|value| value.as_str()).unwrap_or_default();
        // The id was written by this index; without it, the entry is not one of ours.
        let Ok(api) = ApiId::parse(text(self.api)) else { return Ok(None) };
        let highlights = [
            (HighlightedField::Name, self.name),
            (HighlightedField::Description, self.description),
            (HighlightedField::Operations, self.operations),
        ];
        let highlights = highlights
            .into_iter()
            .filter_map(|(shown, field)| highlight(shown, text(field), words))
            .collect();
        Ok(Some(Hit { api, score, highlights }))
    }
}

/// Entries that have exactly this term.
pub(crate) fn exact(field: Field, text: &str) -> Box<dyn TantivyQuery> {
    term(field, text, IndexRecordOption::Basic)
}

fn term(field: Field, text: &str, record: IndexRecordOption) -> Box<dyn TantivyQuery> {
    Box::new(TermQuery::new(Term::from_field_text(field, text), record))
}

fn prefix(field: Field, text: &str) -> Box<dyn TantivyQuery> {
    Box::new(FuzzyTermQuery::new_prefix(Term::from_field_text(field, text), 0, true))
}

fn typo(field: Field, text: &str) -> Box<dyn TantivyQuery> {
    Box::new(FuzzyTermQuery::new(Term::from_field_text(field, text), 1, true))
}

fn worth_of(query: Box<dyn TantivyQuery>, worth: f32) -> Box<dyn TantivyQuery> {
    Box::new(ConstScoreQuery::new(query, worth))
}

fn any_of(queries: Vec<Box<dyn TantivyQuery>>) -> Box<dyn TantivyQuery> {
    Box::new(BooleanQuery::union(queries))
}

fn facet_query(field: Field, value: &str) -> Box<dyn TantivyQuery> {
    match facet(value) {
        Some(facet) => {
            Box::new(TermQuery::new(Term::from_facet(field, &facet), IndexRecordOption::Basic))
        }
        // No entry has a value that cannot be one.
        None => Box::new(tantivy::query::EmptyQuery),
    }
}

fn most_frequent(counts: &FacetCounts) -> Vec<(String, u64)> {
    let mut values: Vec<(String, u64)> = counts
        .get("/")
        .map(|(facet, count)| (facet.to_path().concat(), count))
        .filter(|(_, count)| *count > 0)
        .collect();
    values.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    values.truncate(FACET_VALUES);
    values
}
