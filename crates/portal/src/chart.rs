//! Charts, drawn as SVG. Each has its numbers in words beside it, for those who do not see it.

use std::fmt::{self, Write as _};

/// A line without axes: how a number went.
#[derive(Debug, Clone)]
pub(crate) struct Sparkline {
    points: Vec<u64>,
    /// What is shown, for those who do not see it.
    label: String,
}

const WIDTH: u64 = 200;
const HEIGHT: u64 = 36;
/// Room for the line's own width.
const MARGIN: u64 = 3;

impl Sparkline {
    pub(crate) fn new(label: &str, points: Vec<u64>) -> Self {
        let label = match (points.first(), points.last(), points.iter().max()) {
            (Some(first), Some(last), Some(most)) => {
                format!("{label}: from {first} to {last}, at most {most}")
            }
            _ => format!("{label}: nothing yet"),
        };
        Self { points, label }
    }
}

impl fmt::Display for Sparkline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.points.iter().copied().max().unwrap_or(0).max(1);
        let steps = (self.points.len() as u64).saturating_sub(1).max(1);
        let mut line = String::new();
        for (number, point) in (0_u64..).zip(&self.points) {
            let x = MARGIN + number * (WIDTH - 2 * MARGIN) / steps;
            let share = u128::from(*point) * u128::from(HEIGHT - 2 * MARGIN) / u128::from(most);
            let y = HEIGHT - MARGIN - u64::try_from(share).unwrap_or(0);
            write!(line, "{}{x},{y}", if number == 0 { "" } else { " " })?;
        }
        write!(
            out,
            "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\
             <polyline points=\"{line}\"/></svg>",
            Attribute(&self.label)
        )
    }
}

impl askama::filters::HtmlSafe for Sparkline {}

/// A row of steps, each in the colour of how it went, with words for it.
#[derive(Debug, Clone)]
pub(crate) struct Strip(pub(crate) Vec<(String, &'static str)>);

impl fmt::Display for Strip {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEP: usize = 10;
        let width = self.0.len() * STEP;
        let known = self.0.iter().filter(|(_, class)| !class.is_empty()).map(|(words, _)| words);
        let label = known.map(String::as_str).collect::<Vec<_>>().join("; ");
        write!(
            out,
            "<svg class=\"strip\" viewBox=\"0 0 {width} 24\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"By hour: {}\">",
            Attribute(&label)
        )?;
        for (number, (words, class)) in self.0.iter().enumerate() {
            let x = number * STEP + 1;
            // Not by colour alone: the worse it went, the shorter it is.
            let (y, height) = match *class {
                "good" => (0, 24),
                "fair" => (8, 16),
                "poor" => (16, 8),
                _ => (21, 3),
            };
            write!(
                out,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"8\" height=\"{height}\"><title>{}</title></rect>",
                Attribute(words)
            )?;
        }
        out.write_str("</svg>")
    }
}

impl askama::filters::HtmlSafe for Strip {}

/// Lines over time, with an axis, each labelled at its end.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// What is shown, for those who do not see it.
    pub(crate) title: String,
    /// How numbers on the axis are written.
    pub(crate) unit: fn(u64) -> String,
    pub(crate) lines: Vec<Line>,
    /// Beginning and end of the time that is shown.
    pub(crate) span: (String, String),
}

/// One line of a chart. Where nothing is known it has a gap.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) label: &'static str,
    /// Its colour, by a class of the style sheet.
    pub(crate) class: &'static str,
    pub(crate) points: Vec<Option<u64>>,
}

const CHART_WIDTH: u64 = 760;
const CHART_HEIGHT: u64 = 200;
/// Room for the axis at the left, labels at the right, and the times below.
const LEFT: u64 = 64;
const RIGHT: u64 = 96;
const TOP: u64 = 12;
const BOTTOM: u64 = 24;

impl Chart {
    /// The end of the axis: a round number that nothing exceeds.
    fn top(&self) -> u64 {
        let most = self.lines.iter().flat_map(|line| line.points.iter().flatten()).copied().max();
        let most = most.unwrap_or(0).max(4);
        let unit = 10_u64.pow(most.ilog10());
        let round = [1, 2, 4, 5, 10].into_iter().map(|times| unit.saturating_mul(times));
        round.into_iter().find(|top| *top >= most).unwrap_or(most)
    }

    fn height_of(value: u64, top: u64) -> u64 {
        let room = u128::from(CHART_HEIGHT - TOP - BOTTOM);
        let share = u128::from(value.min(top)) * room / u128::from(top.max(1));
        CHART_HEIGHT - BOTTOM - u64::try_from(share).unwrap_or(0)
    }
}

impl Line {
    /// Its parts between gaps, as lists of places; and where the last one ends.
    fn parts(&self, top: u64) -> (Vec<String>, Option<(u64, u64)>) {
        let steps = (self.points.len() as u64).saturating_sub(1).max(1);
        let (mut parts, mut part, mut end) = (Vec::new(), String::new(), None);
        for (number, point) in (0_u64..).zip(&self.points) {
            match point {
                None => parts.push(std::mem::take(&mut part)),
                Some(value) => {
                    let x = LEFT + number * (CHART_WIDTH - LEFT - RIGHT) / steps;
                    let y = Chart::height_of(*value, top);
                    let space = if part.is_empty() { "" } else { " " };
                    part.push_str(&format!("{space}{x},{y}"));
                    end = Some((x, y));
                }
            }
        }
        parts.push(part);
        parts.retain(|part| !part.is_empty());
        (parts, end)
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.top();
        write!(
            out,
            "<svg class=\"chart\" viewBox=\"0 0 {CHART_WIDTH} {CHART_HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            Attribute(&format!("{}; the numbers are in the table below", self.title))
        )?;
        for value in [0, top / 2, top] {
            let (y, right) = (Self::height_of(value, top), CHART_WIDTH - RIGHT);
            write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/><text x=\"{}\" y=\"{}\" \
                 text-anchor=\"end\">{}</text>",
                LEFT - 8,
                y + 4,
                Attribute(&(self.unit)(value))
            )?;
        }
        // Labels of lines that end close together keep a distance.
        let mut taken: Vec<u64> = Vec::new();
        for line in &self.lines {
            let (parts, end) = line.parts(top);
            for part in &parts {
                write!(out, "<polyline class=\"{}\" points=\"{part}\"/>", line.class)?;
            }
            let Some((x, y)) = end else { continue };
            write!(out, "<circle class=\"{}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>", line.class)?;
            let mut at = y + 4;
            while taken.iter().any(|other| other.abs_diff(at) < 13) {
                at = at.saturating_sub(13);
            }
            taken.push(at);
            let last = line.points.iter().rev().flatten().next().copied().unwrap_or(0);
            write!(
                out,
                "<text class=\"{}\" x=\"{}\" y=\"{at}\">{} {}</text>",
                line.class,
                x + 6,
                Attribute(line.label),
                Attribute(&(self.unit)(last))
            )?;
        }
        let (below, right) = (CHART_HEIGHT - 6, CHART_WIDTH - RIGHT);
        write!(
            out,
            "<text x=\"{LEFT}\" y=\"{below}\">{}</text><text x=\"{right}\" y=\"{below}\" text-anchor=\"end\">{}</text></svg>",
            Attribute(&self.span.0),
            Attribute(&self.span.1)
        )
    }
}

impl askama::filters::HtmlSafe for Chart {}

/// A text as the value of an attribute.
struct Attribute<'text>(&'text str);

impl fmt::Display for Attribute<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_within_its_picture_and_names_cannot_break_out() {
        let svg = Sparkline::new("Calls of <\"x\">", vec![0, 5, u64::MAX]).to_string();
        assert!(svg.contains("points=\"3,33 100,33 197,3\""), "{svg}");
        assert!(svg.contains("Calls of &lt;&quot;x&quot;&gt;: from 0"), "{svg}");
    }

    #[test]
    fn gaps_are_shown_as_gaps_and_the_axis_ends_at_a_round_number() {
        let line =
            Line { label: "calls", class: "calls", points: vec![Some(1), Some(35), None, Some(7)] };
        let chart = Chart {
            title: "Calls".to_owned(),
            unit: |number| number.to_string(),
            lines: vec![line],
            span: ("then".to_owned(), "now".to_owned()),
        };
        let svg = chart.to_string();
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert!(svg.contains(">40</text>") && svg.contains(">calls 7</text>"), "{svg}");
    }
}
