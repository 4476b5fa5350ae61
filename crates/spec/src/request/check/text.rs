//! Text and numbers.

use std::cmp::Ordering;

use super::{Checker, Sink, report};
use crate::request::{
    findings::Place,
    number::Bound,
    schema::{NumberRules, TextRules},
};

/// Whether a number that compares so with a bound keeps it.
type Holds = fn(Ordering) -> bool;

impl Checker<'_> {
    pub(super) fn text(
        &mut self,
        rules: &TextRules,
        text: &str,
        place: &Place<'_>,
        mut out: Sink<'_>,
    ) -> bool {
        let mut fits = true;
        if rules.min.is_some() || rules.max.is_some() {
            fits = length_fits(rules, text);
            if !fits {
                report(&mut out, place, || match (rules.min, rules.max) {
                    (Some(min), Some(max)) => format!("must have {min} to {max} characters"),
                    (Some(min), None) => format!("must have at least {min} characters"),
                    (None, max) => {
                        format!("must have at most {} characters", max.unwrap_or_default())
                    }
                });
            }
        }
        if let Some(format) = rules.format
            && !format.accepts(text)
        {
            report(&mut out, place, || format.message().to_owned());
            fits = false;
        }
        if let Some(pattern) = &rules.pattern {
            let matches = self.spend(text.len() / 8) && pattern.matches(text);
            if !matches {
                report(&mut out, place, || pattern.message().into_owned());
            }
            fits &= matches;
        }
        fits
    }
}

/// Lengths are counted in characters, and only where the bytes do not settle it.
pub(super) fn length_fits(rules: &TextRules, text: &str) -> bool {
    let (min, max) = (rules.min.unwrap_or(0), rules.max.unwrap_or(usize::MAX));
    if text.len() < min || text.len() / 4 > max {
        return false;
    }
    if text.len() <= max && text.len() / 4 >= min {
        return true;
    }
    (min..=max).contains(&text.chars().count())
}

pub(super) fn numbers(
    rules: &NumberRules,
    text: &str,
    place: &Place<'_>,
    mut out: Sink<'_>,
) -> bool {
    let bounds: [(&Option<Bound>, Holds, &str); 4] = [
        (&rules.min, Ordering::is_ge, "must be at least"),
        (&rules.above, Ordering::is_gt, "must be more than"),
        (&rules.max, Ordering::is_le, "must be at most"),
        (&rules.below, Ordering::is_lt, "must be less than"),
    ];
    let mut fits = true;
    for (bound, holds, message) in bounds {
        if let Some(bound) = bound
            && !holds(bound.compared(text))
        {
            report(&mut out, place, || format!("{message} {}", bound.text()));
            fits = false;
        }
    }
    if let Some(divisor) = &rules.multiple_of
        && !divisor.divides(text)
    {
        report(&mut out, place, || format!("must be a multiple of {}", divisor.text()));
        fits = false;
    }
    if let Some(format) = rules.format
        && !format.accepts(text)
    {
        report(&mut out, place, || format.message().to_owned());
        fits = false;
    }
    fits
}
