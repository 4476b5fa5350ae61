//! The words of a search.

use tantivy::tokenizer::TextAnalyzer;

use crate::fields::{stem_analyzer, word_analyzer};

/// A word of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// In lower case and without accents.
    pub(crate) plain: String,
    /// Its stem; none for a word so frequent that it says nothing.
    pub(crate) stem: Option<String>,
    /// Whether it may be the beginning of a longer word: the last one, still being typed.
    pub(crate) is_prefix: bool,
}

/// Words looked for at most; the rest of a text is left out.
const MOST_WORDS: usize = 16;

/// Words with fewer letters are not matched with typing errors.
const SHORTEST_TYPO: usize = 5;

/// The words of a text. Words that say nothing are left out if any other is there.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let mut stems = stem_analyzer();
    let mut found: Vec<Word> = Vec::new();
    for plain in tokens(&mut word_analyzer(), text).into_iter().take(MOST_WORDS) {
        if found.iter().all(|word| word.plain != plain) {
            let stem = tokens(&mut stems, &plain).into_iter().next();
            found.push(Word { plain, stem, is_prefix: false });
        }
    }
    let ends_in_word = text.ends_with(char::is_alphanumeric);
    if let Some(last) = found.last_mut().filter(|word| ends_in_word && word.plain.len() >= 2) {
        last.is_prefix = true;
    }
    if found.iter().any(|word| word.stem.is_some()) {
        found.retain(|word| word.stem.is_some());
    }
    found
}

impl Word {
    pub(crate) fn allows_typo(&self) -> bool {
        self.plain.chars().count() >= SHORTEST_TYPO
    }

    /// Whether a word of an entry is what was looked for.
    pub(crate) fn matches(&self, plain: &str, stem: &str) -> bool {
        self.stem.as_deref().unwrap_or(&self.plain) == stem
            || self.plain == plain
            || self.is_prefix && plain.starts_with(&self.plain)
            || self.allows_typo() && distance(&self.plain, plain) <= 1
    }
}

/// Edits from one word to the other; swapped neighbours are one.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    if one.len().abs_diff(other.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for (index, row) in rows.iter_mut().enumerate() {
        row[0] = index;
    }
    rows[0] = (0..=other.len()).collect();
    for i in 1..=one.len() {
        for j in 1..=other.len() {
            let cost = usize::from(one[i - 1] != other[j - 1]);
            let mut best =
                (rows[i - 1][j - 1] + cost).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            let is_swapped =
                i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
            if is_swapped {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[one.len()][other.len()]
}

fn tokens(analyzer: &mut TextAnalyzer, text: &str) -> Vec<String> {
    let mut stream = analyzer.token_stream(text);
    let mut tokens = Vec::new();
    while let Some(token) = stream.next() {
        tokens.push(token.text.clone());
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_a_prefix_until_it_ends() {
        let plain =
            |text| words(text).into_iter().map(|word| (word.plain, word.is_prefix)).collect();
        let found: Vec<(String, bool)> = plain("The Lab résults");
        assert_eq!(found, [("lab".to_owned(), false), ("results".to_owned(), true)]);
        let found: Vec<(String, bool)> = plain("the ");
        assert_eq!(found, [("the".to_owned(), false)]);
    }

    #[test]
    fn swapped_letters_are_one_edit() {
        assert_eq!(distance("claims", "cliams"), 1);
        assert_eq!(distance("claims", "claim"), 1);
        assert_eq!(distance("claims", "lab"), usize::MAX);
    }
}
