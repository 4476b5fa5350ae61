//! Compares values with schemas.
//!
//! The work is counted and the depth bounded, so that no pair of schema and value takes longer than the caller
//! grants. Looking for findings and asking whether a branch fits are the same walk; the latter ends at the first
//! misfit.

mod array;
mod combined;
mod equality;
mod object;
mod text;

use super::{
    findings::{Findings, Place},
    json::{Node, Value},
    schema::{Rule, Schema, SchemaId},
};

/// Schemas within schemas within values that are followed.
const DEPTH_MAX: usize = 200;
/// Arrays and objects up to this size are compared without sorting or hashing.
const FEW: usize = 16;

/// One comparison.
pub(super) struct Checker<'r> {
    schemas: &'r [Schema],
    /// Steps that may still be taken.
    left: usize,
    depth: usize,
    /// Whether the steps or the depth ran out, which makes every result worthless.
    exhausted: bool,
    /// How often something was met that is not enforced.
    unknown: usize,
}

/// Where findings go; none while only asking whether a branch fits.
type Sink<'f> = Option<&'f mut Findings>;

/// Which members or items of one value some rule has looked at.
type Seen<'s> = Option<&'s mut Vec<bool>>;

impl<'r> Checker<'r> {
    pub(super) fn new(schemas: &'r [Schema], steps: usize) -> Self {
        Self { schemas, left: steps, depth: 0, exhausted: false, unknown: 0 }
    }

    pub(super) const fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Whether the value fits the schema.
    pub(super) fn fits(&mut self, schema: SchemaId, node: Node<'_>) -> bool {
        self.check(schema, node, &Place::BODY, None, None)
    }

    /// Adds everything that does not fit.
    pub(super) fn find(
        &mut self,
        schema: SchemaId,
        node: Node<'_>,
        place: &Place<'_>,
        findings: &mut Findings,
    ) {
        self.check(schema, node, place, Some(findings), None);
    }

    fn check(
        &mut self,
        id: SchemaId,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        seen: Seen<'_>,
    ) -> bool {
        if self.depth >= DEPTH_MAX {
            self.exhausted = true;
        }
        if !self.spend(1) {
            return false;
        }
        let schemas = self.schemas;
        let Some(schema) = schemas.get(usize::try_from(id).unwrap_or(usize::MAX)) else {
            return true;
        };
        if schema.nullable && node.value() == Value::Null {
            return true;
        }
        if !schema.types.admits(node) {
            report(&mut out, place, || schema.types.message());
            return false;
        }
        if schema.rules.is_empty() {
            return true;
        }
        self.depth += 1;
        let fits = if schema.tracks {
            let mut own = vec![false; node.count()];
            let fits = self.rules(schema, node, place, out, Some(&mut own));
            if let (true, Some(seen)) = (fits, seen) {
                merge(seen, &own);
            }
            fits
        } else {
            self.rules(schema, node, place, out, seen)
        };
        self.depth -= 1;
        fits
    }

    fn rules(
        &mut self,
        schema: &Schema,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        mut seen: Seen<'_>,
    ) -> bool {
        let mut fits = true;
        for rule in &schema.rules {
            fits &= self.rule(rule, node, place, out.as_deref_mut(), seen.as_deref_mut());
            if !fits && out.as_ref().is_none_or(|findings| findings.is_full()) {
                return false;
            }
        }
        fits
    }

    fn rule(
        &mut self,
        rule: &Rule,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        mut seen: Seen<'_>,
    ) -> bool {
        match (rule, node.value()) {
            (Rule::Enum(choices), _) => {
                let weight =
                    choices.others.iter().map(super::schema::Constant::weight).sum::<usize>();
                let fits = self.spend(weight) && choices.contain(node);
                if !fits {
                    report(&mut out, place, || choices.message());
                }
                fits
            }
            (Rule::Text(rules), Value::String(text)) => self.text(rules, text, place, out),
            (Rule::Number(rules), Value::Number(text)) => text::numbers(rules, text, place, out),
            (Rule::Array(rules), Value::Array) => self.array(rules, node, place, out, seen),
            (Rule::Object(rules), Value::Object) => self.object(rules, node, place, out, seen),
            (Rule::Ref(id), _) => self.check(*id, node, place, out, seen),
            (Rule::AllOf(ids), _) => {
                let mut fits = true;
                for id in ids {
                    fits &= self.check(*id, node, place, out.as_deref_mut(), seen.as_deref_mut());
                    if !fits && out.is_none() {
                        return false;
                    }
                }
                fits
            }
            (Rule::AnyOf(branches), _) => self.any_of(branches, node, place, out, seen),
            (Rule::OneOf(branches), _) => self.one_of(branches, node, place, out, seen),
            (Rule::Not(id), _) => {
                let before = self.unknown;
                let fits = !self.fits(*id, node) || self.unknown != before;
                if !fits {
                    report(&mut out, place, || {
                        "must not have the form that is excluded".to_owned()
                    });
                }
                fits
            }
            (Rule::If { condition, then, otherwise }, _) => {
                let before = self.unknown;
                let mut own = seen.as_ref().map(|seen| vec![false; seen.len()]);
                let holds = self.check(*condition, node, place, None, own.as_mut());
                if let (true, Some(seen), Some(own)) = (holds, seen.as_deref_mut(), own) {
                    merge(seen, &own);
                }
                match if holds { then } else { otherwise } {
                    Some(id) if self.unknown == before => self.check(*id, node, place, out, seen),
                    _ => true,
                }
            }
            (Rule::Dependent(schemas), Value::Object) => {
                let mut fits = true;
                for (name, id) in schemas {
                    if self.spend(node.count()) && node.get(name).is_some() {
                        fits &=
                            self.check(*id, node, place, out.as_deref_mut(), seen.as_deref_mut());
                    }
                }
                fits && !self.exhausted
            }
            (Rule::UnevaluatedProperties(id), Value::Object) => {
                self.unevaluated_properties(*id, node, place, out, seen)
            }
            (Rule::UnevaluatedItems(id), Value::Array) => {
                self.unevaluated_items(*id, node, place, out, seen)
            }
            (Rule::Unknown, _) => {
                self.unknown += 1;
                true
            }
            _ => true,
        }
    }

    /// Whether looking further cannot change the result.
    fn is_done(&self, fits: bool, out: Option<&Findings>) -> bool {
        self.exhausted || !fits && out.is_none_or(Findings::is_full)
    }

    fn spend(&mut self, steps: usize) -> bool {
        match self.left.checked_sub(steps) {
            Some(left) => self.left = left,
            None => self.exhausted = true,
        }
        !self.exhausted
    }
}

fn report(out: &mut Sink<'_>, place: &Place<'_>, message: impl FnOnce() -> String) {
    if let Some(findings) = out
        && !findings.is_full()
    {
        findings.add(place.write(), message());
    }
}

pub(super) fn counts(
    min: Option<usize>,
    max: Option<usize>,
    count: usize,
    what: &str,
    place: &Place<'_>,
    out: &mut Sink<'_>,
) -> bool {
    if let Some(min) = min.filter(|min| count < *min) {
        report(out, place, || format!("must have at least {min} {what}"));
        return false;
    }
    if let Some(max) = max.filter(|max| count > *max) {
        report(out, place, || format!("must have at most {max} {what}"));
        return false;
    }
    true
}

pub(super) fn merge(into: &mut [bool], from: &[bool]) {
    into.iter_mut().zip(from).for_each(|(into, from)| *into |= from);
}
