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
            "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\
             <polyline points=\"{line}\"/></svg>",
            Attribute(&self.label)
        )
    }
}

impl askama::filters::HtmlSafe for Sparkline {}

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
}
