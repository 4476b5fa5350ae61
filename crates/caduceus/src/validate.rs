//! `caduceus validate`: checks specification documents in files, folders or standard input.
//!
//! Results go to standard output, what is wrong and where to standard error. Every input has a
//! result, in the order of the inputs; one that cannot be read does not stop the others.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use miette::{
    GraphicalReportHandler, LabeledSpan, MietteDiagnostic, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};
use serde::Serialize;
use spec::{Issue, Limits, Report, Severity};

use crate::{output::Output, progress::Progress};

/// Check OpenAPI documents and say what is wrong and where.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {
    /// Files, folders (searched for .json, .yaml and .yml), or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Format of the documents; auto tells it from their content.
    #[arg(long, value_enum, default_value_t = FormatChoice::Auto)]
    format: FormatChoice,

    /// How results are written: for people, one JSON object per input and line, or one YAML document per input.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Formats that can be asked for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatChoice {
    Auto,
}

/// How an input ended, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Fine,
    Findings,
    Failed,
}

/// Result of one input, as `-o json` writes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultRow<'a> {
    file: &'a str,
    format: Option<spec::Format>,
    format_version: Option<&'a str>,
    valid: bool,
    issues: &'a [Issue],
    summary: Option<SummaryRow<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryRow<'a> {
    title: &'a str,
    version: &'a str,
    operations: usize,
    schemas: usize,
}

/// Checks all inputs and exits 0 when none has an error, 1 when one has, 2 when one could not be
/// read.
pub(crate) fn run(args: &ValidateArgs) -> ExitCode {
    let FormatChoice::Auto = args.format;
    match validate_all(args) {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Ok(Outcome::Failed) => ExitCode::from(2),
        // Whoever reads the results has heard enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("results cannot be written: {error}"));
            ExitCode::from(2)
        }
    }
}

fn validate_all(args: &ValidateArgs) -> io::Result<Outcome> {
    let mut worst = Outcome::Fine;
    let mut inputs = Vec::new();
    for named in &args.files {
        match list_documents(named) {
            Ok(found) if found.is_empty() => {
                complain(&format!("{}: no .json, .yaml or .yml file in it", named.display()));
                worst = Outcome::Failed;
            }
            Ok(found) => inputs.extend(found),
            Err(error) => {
                complain(&format!("{}: {error}", named.display()));
                worst = Outcome::Failed;
            }
        }
    }
    let mut output = io::BufWriter::new(io::stdout().lock());
    let progress = Progress::new(inputs.len());
    for (done, input) in inputs.iter().enumerate() {
        progress.show(done, &input.display());
        let outcome = validate_one(input, args.output, &progress, &mut output)?;
        worst = worst.max(outcome);
        if io::stdout().is_terminal() {
            output.flush()?;
        }
    }
    progress.clear();
    output.flush()?;
    Ok(worst)
}

fn validate_one(
    input: &Path,
    output: Output,
    progress: &Progress,
    results: &mut impl Write,
) -> io::Result<Outcome> {
    let file = if is_standard_input(input) { "-".into() } else { input.to_string_lossy() };
    let limits = Limits::default();
    let (bytes, report) = match read_input(input, limits.document_bytes) {
        Ok(bytes) => {
            let report = spec::validate(&bytes, &limits);
            (bytes, report)
        }
        Err(error) => {
            progress.clear();
            complain(&format!("{file}: {error}"));
            if !matches!(output, Output::Table) {
                write_row(&file, &unreadable(&error), output, results)?;
            }
            return Ok(Outcome::Failed);
        }
    };
    progress.clear();
    match output {
        Output::Json | Output::Yaml => write_row(&file, &report, output, results)?,
        Output::Table => {
            write_diagnostics(&file, &bytes, &report.issues);
            writeln!(results, "{}", summary_line(&file, &report))?;
        }
    }
    Ok(if report.is_valid() { Outcome::Fine } else { Outcome::Findings })
}

/// The documents a name stands for: itself, or those in a folder, sorted by path.
fn list_documents(named: &Path) -> io::Result<Vec<PathBuf>> {
    // What is not there is an input as well: reading it says so in its place.
    if !fs::metadata(named).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(vec![named.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![named.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // Links to folders are not followed: they may lead in a circle.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_document(&entry.path()) && entry.path().is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["json", "yaml", "yml"].iter().any(|one| extension.eq_ignore_ascii_case(one))
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads an input, but no more than shows that it is too long.
fn read_input(input: &Path, longest: usize) -> io::Result<Vec<u8>> {
    let enough = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if is_standard_input(input) {
        io::stdin().lock().take(enough).read_to_end(&mut bytes)?;
    } else {
        File::open(input)?.take(enough).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> Report {
    let issue = Issue {
        severity: Severity::Error,
        rule: "unreadable",
        message: format!("the file cannot be read: {error}"),
        location: "$".to_owned(),
        line: 1,
        column: 1,
    };
    Report { format: None, format_version: None, syntax: None, issues: vec![issue], summary: None }
}

fn write_row(
    file: &str,
    report: &Report,
    output: Output,
    results: &mut impl Write,
) -> io::Result<()> {
    let row = ResultRow {
        file,
        format: report.format,
        format_version: report.format_version.as_deref(),
        valid: report.is_valid(),
        issues: &report.issues,
        summary: report.summary.as_ref().map(|summary| SummaryRow {
            title: &summary.title,
            version: &summary.version,
            operations: summary.operations.len(),
            schemas: summary.schemas.len(),
        }),
    };
    output.write_row(results, &row)
}

/// `beds.yaml: valid, OpenAPI 3.0.4, "Clinic" 1.2: 3 operations, 2 schemas; 1 warning`
fn summary_line(file: &str, report: &Report) -> String {
    let mut line = format!("{file}: {}", if report.is_valid() { "valid" } else { "not valid" });
    if let Some(format) = report.format {
        let version = report.format_version.as_deref().unwrap_or_default();
        line.push_str(format!(", {} {version}", format.name()).trim_end());
    }
    if let Some(summary) = &report.summary {
        line.push_str(&format!(
            ", {:?} {}: {}, {}",
            summary.title,
            summary.version,
            counted(summary.operations.len(), "operation"),
            counted(summary.schemas.len(), "schema"),
        ));
    }
    let severities =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "note")];
    let counts: Vec<String> = severities
        .into_iter()
        .map(|(severity, name)| {
            (report.issues.iter().filter(|issue| issue.severity == severity).count(), name)
        })
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| counted(count, name))
        .collect();
    if !counts.is_empty() {
        line.push_str("; ");
        line.push_str(&counts.join(", "));
    }
    line
}

fn counted(count: usize, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// Shows every issue with its line of the source.
fn write_diagnostics(file: &str, bytes: &[u8], issues: &[Issue]) {
    if issues.is_empty() {
        return;
    }
    let handler = GraphicalReportHandler::new().with_context_lines(1);
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::new(&text);
    let mut errors = io::BufWriter::new(io::stderr().lock());
    for issue in issues {
        let source = SourceLine::new(file, lines.get(issue.line), issue);
        let severity = match issue.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Info => miette::Severity::Advice,
        };
        let diagnostic = MietteDiagnostic::new(issue.message.clone())
            .with_code(issue.rule)
            .with_severity(severity)
            .with_help(format!("at {}", issue.location))
            .with_label(LabeledSpan::underline(source.mark..source.mark));
        let report = miette::Report::new(diagnostic).with_source_code(source);
        let mut rendered = String::new();
        // A diagnostic that cannot be shown or written is not worth an end of the run.
        if handler.render_report(&mut rendered, report.as_ref()).is_ok() {
            drop(errors.write_all(rendered.as_bytes()));
        }
    }
    drop(errors.flush());
}

/// Finds lines by number, fast for numbers that grow.
struct Lines<'t> {
    text: &'t str,
    number: u32,
    start: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, number: 1, start: 0 }
    }

    /// A line without its break; empty beyond the last one.
    fn get(&mut self, number: u32) -> &'t str {
        if number < self.number {
            *self = Self::new(self.text);
        }
        while self.number < number {
            let rest = &self.text[self.start..];
            let Some(end) = rest.find(['\n', '\r']) else { return "" };
            let is_pair = rest[end..].starts_with("\r\n");
            self.start += end + if is_pair { 2 } else { 1 };
            self.number += 1;
        }
        self.text[self.start..].split(['\n', '\r']).next().unwrap_or_default()
    }
}

/// The line an issue is on, as much of it as fits a screen.
struct SourceLine {
    file: String,
    text: String,
    /// Where the issue is, in bytes of `text`.
    mark: usize,
    line: usize,
    column: usize,
}

impl SourceLine {
    /// Characters shown before and behind the place of an issue.
    const AROUND: usize = 80;

    fn new(file: &str, line: &str, issue: &Issue) -> Self {
        let column = usize::try_from(issue.column).unwrap_or(1).saturating_sub(1);
        let hidden = column.saturating_sub(Self::AROUND);
        let shown = line.chars().skip(hidden).take(2 * Self::AROUND);
        // A tab would be as wide as miette likes; the mark has to stay below its character.
        let mut text: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mark = text.chars().take(column - hidden).map(char::len_utf8).sum();
        if mark == text.len() {
            text.push(' ');
        }
        let line = usize::try_from(issue.line).unwrap_or(1).saturating_sub(1);
        Self { file: file.to_owned(), text, mark, line, column }
    }
}

impl SourceCode for SourceLine {
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        context_before: usize,
        _context_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // Without context the place itself is asked for, otherwise the line around it.
        let column = if context_before == 0 { self.column } else { 0 };
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.clone(),
            self.text.as_bytes(),
            SourceSpan::from(0..self.text.len()),
            self.line,
            column,
            1,
        )))
    }
}

/// Says on standard error why something could not be done.
fn complain(message: &str) {
    drop(writeln!(io::stderr(), "error: {message}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_any_order() {
        let mut lines = Lines::new("a\nb\r\nc\rd");
        assert_eq!([4, 1, 2, 3, 5].map(|number| lines.get(number)), ["d", "a", "b", "c", ""]);
    }

    #[test]
    fn a_long_line_is_cut_around_the_issue() {
        let line = format!("{}é!{}", "x".repeat(500), "y".repeat(500));
        let report = spec::validate(b"", &Limits::default());
        let issue = Issue { column: 502, ..report.issues[0].clone() };
        let source = SourceLine::new("f", &line, &issue);
        assert!(source.text[source.mark..].starts_with('!'));
        assert!(source.text.chars().count() < 170);
    }

    #[test]
    fn a_summary_counts_what_there_is() {
        let text = "openapi: 3.0.4\ninfo: {title: Clinic, version: '1'}\npaths: {beds: {}}\n";
        let report = spec::validate(text.as_bytes(), &Limits::default());
        assert_eq!(
            summary_line("a.yaml", &report),
            "a.yaml: not valid, OpenAPI 3.0.4, \"Clinic\" 1: 0 operations, 0 schemas; 1 error"
        );
    }
}
