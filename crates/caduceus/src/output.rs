//! How results are written: tables for people, JSON and YAML for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use spec::{Limits, Syntax};

/// Ways to write results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// A colour, where the terminal has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Yellow,
    Red,
    Plain,
}

/// Rows with a mark, a few words, and a text that is wrapped to the width of the terminal.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    colour: Colour,
    words: String,
    text: String,
}

/// The width of what is no terminal, such as a file: wide enough that nothing is wrapped.
const WIDTH_OF_FILES: usize = 10_000;
/// A narrower terminal is treated as if it were this wide.
const WIDTH_MIN: usize = 40;

impl Output {
    /// Writes a whole result for programs.
    pub(crate) fn write(self, out: &mut impl Write, result: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Table | Self::Json => {
                serde_json::to_writer_pretty(&mut *out, result)?;
                writeln!(out)
            }
            Self::Yaml => out.write_all(yaml(result)?.as_bytes()),
        }
    }

    /// Writes one of several results: a line of JSON, or a document of a YAML stream.
    pub(crate) fn write_row(self, out: &mut impl Write, row: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Table | Self::Json => {
                serde_json::to_writer(&mut *out, row)?;
                writeln!(out)
            }
            Self::Yaml => write!(out, "---\n{}", yaml(row)?),
        }
    }
}

fn yaml(value: &impl Serialize) -> io::Result<String> {
    let json = serde_json::to_vec(value)?;
    let limits =
        Limits { document_bytes: usize::MAX, output_bytes: usize::MAX, ..Limits::default() };
    spec::convert(&json, &limits, Syntax::Yaml).map_err(|issue| io::Error::other(issue.message))
}

impl Table {
    /// Adds a row: a few words, and a text.
    pub(crate) fn row(
        &mut self,
        colour: Colour,
        words: impl Into<String>,
        text: impl Into<String>,
    ) {
        self.rows.push(Row { colour, words: words.into(), text: text.into() });
    }

    /// Writes all rows, the texts below each other.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let is_terminal = io::stdout().is_terminal();
        let has_colours = is_terminal && config::variable("NO_COLOR").is_none();
        let width = if is_terminal { terminal_width() } else { WIDTH_OF_FILES };
        self.write_to(out, width, has_colours)
    }

    fn write_to(&self, out: &mut impl Write, width: usize, has_colours: bool) -> io::Result<()> {
        let words = self.rows.iter().map(|row| row.words.chars().count()).max().unwrap_or(0);
        let room = width.saturating_sub(words + 2).max(WIDTH_MIN / 2);
        // Said in full: the defaults of the library depend on who else is built with it. Names are
        // not broken at their hyphens, so that they can be copied.
        let wrapping = textwrap::Options::new(room)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
        for row in &self.rows {
            let (on, off) = match (row.colour, has_colours) {
                (_, false) | (Colour::Plain, _) => ("", ""),
                (Colour::Green, _) => ("\x1b[32m", "\x1b[0m"),
                (Colour::Yellow, _) => ("\x1b[33m", "\x1b[0m"),
                (Colour::Red, _) => ("\x1b[31m", "\x1b[0m"),
            };
            // Names and values come from elsewhere: they must not steer the terminal.
            let text: String =
                row.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let mut lines = textwrap::wrap(&text, &wrapping).into_iter();
            let first = lines.next().unwrap_or_default();
            writeln!(out, "{on}{:<words$}{off}  {first}", row.words)?;
            for line in lines {
                writeln!(out, "{:words$}  {line}", "")?;
            }
        }
        Ok(())
    }
}

/// How many characters fit on a line of the terminal.
pub(crate) fn terminal_width() -> usize {
    let (width, _) = terminal_size::terminal_size()
        .unwrap_or((terminal_size::Width(80), terminal_size::Height(24)));
    usize::from(width.0).max(WIDTH_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_below_each_other_and_do_not_steer_the_terminal() {
        let mut table = Table::default();
        table.row(Colour::Green, "create", "plan Standard of north-clinic/Clinic Scheduling");
        table.row(Colour::Red, "no", "a\x1b[2Jb");
        let written = |width, colours| {
            let mut out = Vec::new();
            table.write_to(&mut out, width, colours).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(40, false),
            "create  plan Standard of\n        north-clinic/Clinic Scheduling\nno      a [2Jb\n"
        );
        assert!(written(100, true).starts_with("\x1b[32mcreate\x1b[0m  plan"));
    }
}
