//! The layout of the index and how text becomes terms.
//!
//! Text is indexed twice: stemmed per field, which ranking is based on, and as plain words, which
//! prefixes, typing errors and suggestions are matched against.

use tantivy::{
    TantivyDocument, Term,
    schema::{
        FAST, Facet, FacetOptions, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema,
        TextFieldIndexing, TextOptions,
    },
    tokenizer::{
        AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer,
        StopWordFilter, TextAnalyzer, TokenizerManager,
    },
};

use crate::{entry::CatalogueEntry, query::Label};

const STEMS: &str = "stems";
const WORDS: &str = "words";

/// Longer words are not indexed, in bytes.
const LONGEST_WORD: usize = 40;

/// The fields of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) api: Field,
    /// `everyone` or the id of a tenant.
    pub(crate) audience: Field,
    pub(crate) name: Field,
    pub(crate) tags: Field,
    pub(crate) description: Field,
    pub(crate) owner: Field,
    pub(crate) operations: Field,
    /// The words of the name.
    pub(crate) name_words: Field,
    /// The words of everything else.
    pub(crate) words: Field,
    pub(crate) facets: [(Label, &'static str, Field); 5],
    pub(crate) updated: Field,
}

pub(crate) const EVERYONE: &str = "everyone";

/// Name of the field that results without words are sorted by.
pub(crate) const UPDATED: &str = "updated";

/// Labels, and the names of their fields.
const FACETS: [(Label, &str); 5] = [
    (Label::Category, "category_facet"),
    (Label::Tag, "tag_facet"),
    (Label::Owner, "owner_facet"),
    (Label::PersonalData, "personal_data_facet"),
    (Label::Status, "status_facet"),
];

/// The schema, with its fields.
pub(crate) fn schema() -> (Schema, Fields) {
    let text = |tokenizer, record| {
        let indexing =
            TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(record);
        TextOptions::default().set_indexing_options(indexing)
    };
    let stems = || text(STEMS, IndexRecordOption::WithFreqs).set_stored();
    let words = || text(WORDS, IndexRecordOption::Basic);
    let mut builder = Schema::builder();
    let fields = Fields {
        api: builder.add_text_field("api", STRING | STORED),
        audience: builder.add_text_field("audience", STRING),
        name: builder.add_text_field("name", stems()),
        tags: builder.add_text_field("tags", stems()),
        description: builder.add_text_field("description", stems()),
        owner: builder.add_text_field("owner", stems()),
        operations: builder.add_text_field("operations", stems()),
        name_words: builder.add_text_field("name_words", words()),
        words: builder.add_text_field("words", words()),
        facets: FACETS.map(|(label, name)| {
            (label, name, builder.add_facet_field(name, FacetOptions::default()))
        }),
        updated: builder.add_i64_field(UPDATED, INDEXED | FAST),
    };
    (builder.build(), fields)
}

/// The tokenizers the schema names.
pub(crate) fn tokenizers() -> TokenizerManager {
    let manager = TokenizerManager::default();
    manager.register(STEMS, stem_analyzer());
    manager.register(WORDS, word_analyzer());
    manager
}

/// English stems without stop words.
pub(crate) fn stem_analyzer() -> TextAnalyzer {
    let words = TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter);
    match StopWordFilter::new(Language::English) {
        Some(stop_words) => {
            words.filter(stop_words).filter(Stemmer::new(Language::English)).build()
        }
        None => words.filter(Stemmer::new(Language::English)).build(),
    }
}

/// Words in lower case and without accents.
pub(crate) fn word_analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .build()
}

impl Fields {
    pub(crate) fn document(&self, entry: &CatalogueEntry) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_text(self.api, entry.api.to_string());
        if entry.visible_to.everyone {
            document.add_text(self.audience, EVERYONE);
        }
        for tenant in &entry.visible_to.tenants {
            document.add_text(self.audience, tenant.to_string());
        }
        document.add_text(self.name, &entry.name);
        document.add_text(self.name_words, &entry.name);
        for tag in &entry.tags {
            document.add_text(self.tags, tag);
        }
        document.add_text(self.description, &entry.description);
        document.add_text(self.owner, &entry.owner);
        document.add_text(self.operations, &entry.operations);
        let others = [&entry.description, &entry.owner, &entry.operations];
        for text in entry.tags.iter().chain(others) {
            document.add_text(self.words, text);
        }
        for (label, _, field) in self.facets {
            let values: Vec<&str> = match label {
                Label::Category => entry.categories.iter().map(String::as_str).collect(),
                Label::Tag => entry.tags.iter().map(String::as_str).collect(),
                Label::Owner => vec![&entry.owner],
                Label::PersonalData => vec![entry.personal_data],
                Label::Status => vec![entry.status],
            };
            for facet in values.into_iter().filter_map(facet) {
                document.add_facet(field, facet);
            }
        }
        document.add_i64(self.updated, entry.updated);
        document
    }

    pub(crate) fn api_term(&self, api: model::ApiId) -> Term {
        Term::from_field_text(self.api, &api.to_string())
    }
}

/// A value as a facet of one level; none for what cannot be one.
pub(crate) fn facet(value: &str) -> Option<Facet> {
    // The separator of levels.
    let value = value.replace('\0', " ");
    (!value.trim().is_empty()).then(|| Facet::from_path([value.trim()]))
}
