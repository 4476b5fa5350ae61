//! Descriptions in Markdown, as HTML that can do no harm.

use std::fmt;

use pulldown_cmark::{Options, Parser, html};

/// HTML from which everything was taken that could do harm.
#[derive(Debug, Clone, Default)]
pub(crate) struct SafeHtml(String);

/// Descriptions longer than this are shown cut, in bytes.
const LONGEST: usize = 64 << 10;

impl SafeHtml {
    /// Markdown as paragraphs, lists, tables, links and code; images and raw HTML are left out.
    pub(crate) fn from_markdown(text: &str) -> Self {
        let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        let text = end.and_then(|end| text.get(..end)).unwrap_or_default();
        let mut rendered = String::new();
        html::push_html(&mut rendered, Parser::new_ext(text, Options::ENABLE_TABLES));
        let mut cleaner = ammonia::Builder::default();
        cleaner
            .rm_tags(["img", "map", "area", "h1", "h2"])
            .link_rel(Some("noopener noreferrer nofollow"))
            .url_schemes(["https", "http", "mailto"].into());
        Self(cleaner.clean(&rendered).to_string())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }
}

impl fmt::Display for SafeHtml {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl askama::filters::HtmlSafe for SafeHtml {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_runs_or_loads_gets_through() {
        for (hostile, bad) in [
            ("<script>alert(1)</script>x", "<script"),
            ("<img src=x onerror=alert(1)>", "onerror"),
            ("![x](https://evil.example/p.png)", "<img"),
            ("[x](javascript:alert(1))", "javascript:"),
            ("[x](data:text/html,x)", "data:"),
            ("<a href=\"x\" style=\"position:fixed\">x</a>", "style="),
            ("<svg onload=alert(1)>", "<svg"),
            ("<form action=https://evil.example><button>x</button></form>", "<form"),
            ("<iframe src=https://evil.example></iframe>", "<iframe"),
        ] {
            let html = SafeHtml::from_markdown(hostile).to_string();
            assert!(!html.contains(bad), "{hostile} became {html}");
        }
    }

    #[test]
    fn what_people_write_stays() {
        let html = SafeHtml::from_markdown("A **bold** word and\n\n- one\n- two").to_string();
        assert_eq!(
            html,
            "<p>A <strong>bold</strong> word and</p>\n<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n"
        );
    }
}
