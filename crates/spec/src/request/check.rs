//! Compares values with schemas.
//!
//! The work is counted and the depth bounded, so that no pair of schema and value takes longer than the caller
//! grants. Looking for findings and asking whether a branch fits are the same walk; the latter ends at the first
//! misfit.

use std::{cmp::Ordering, hash::Hasher};

use ahash::RandomState;

use super::{
    findings::{Findings, Place},
    json::{Node, Value},
    number::{self, Bound, Decimal},
    schema::{
        ArrayRules, Branches, Contains, NumberRules, ObjectRules, Rule, Schema, SchemaId,
        TextRules, Types,
    },
};

/// Schemas within schemas within values that are followed.
const DEPTH_MAX: usize = 200;
/// Arrays up to this length are searched for equal items pair by pair.
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

/// Whether a number that compares so with a bound keeps it.
type Holds = fn(Ordering) -> bool;

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
            (Rule::Number(rules), Value::Number(text)) => numbers(rules, text, place, out),
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

    fn text(
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

    fn array(
        &mut self,
        rules: &ArrayRules,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        mut seen: Seen<'_>,
    ) -> bool {
        let mut fits = counts(rules.min, rules.max, node.count(), "items", place, &mut out);
        for (index, item) in node.items().enumerate() {
            let Some(id) = rules.first.get(index).copied().or(rules.items) else { break };
            fits &= self.check(id, item, &place.index(index), out.as_deref_mut(), None);
            if let Some(seen) = seen.as_deref_mut() {
                seen[index] = true;
            }
            if self.is_done(fits, out.as_deref()) {
                return false;
            }
        }
        if rules.unique {
            fits &= self.unique(node, place, &mut out);
        }
        if let Some(contains) = &rules.contains {
            fits &= self.contains(contains, node, place, &mut out, seen);
        }
        fits
    }

    fn unique(&mut self, node: Node<'_>, place: &Place<'_>, out: &mut Sink<'_>) -> bool {
        let count = node.count();
        let repeated = if count <= FEW {
            if !self.spend(node.weight() * count) {
                return false;
            }
            let items: Vec<Node<'_>> = node.items().collect();
            items
                .iter()
                .enumerate()
                .position(|(at, item)| items[..at].iter().any(|known| equal(*known, *item)))
        } else {
            if !self.spend(node.weight()) {
                return false;
            }
            let state = RandomState::new();
            let mut hashes: Vec<(u64, usize, Node<'_>)> =
                node.items().enumerate().map(|(at, item)| (hash(&state, item), at, item)).collect();
            hashes.sort_unstable_by_key(|(hash, at, _)| (*hash, *at));
            let pairs = hashes.windows(2).filter(|pair| pair[0].0 == pair[1].0);
            pairs.filter(|pair| equal(pair[0].2, pair[1].2)).map(|pair| pair[1].1).min()
        };
        if let Some(index) = repeated {
            report(out, &place.index(index), || "must not be equal to an earlier item".to_owned());
        }
        repeated.is_none()
    }

    fn contains(
        &mut self,
        contains: &Contains,
        node: Node<'_>,
        place: &Place<'_>,
        out: &mut Sink<'_>,
        mut seen: Seen<'_>,
    ) -> bool {
        let before = self.unknown;
        let mut found = 0;
        for (index, item) in node.items().enumerate() {
            if self.fits(contains.schema, item) {
                found += 1;
                if let Some(seen) = seen.as_deref_mut() {
                    seen[index] = true;
                }
            }
            if self.exhausted {
                return false;
            }
        }
        let too_many = contains.max.is_some_and(|max| found > max) && self.unknown == before;
        if found >= contains.min && !too_many {
            return true;
        }
        report(out, place, || match contains.max {
            Some(max) => {
                format!("must contain {} to {max} items of the described form", contains.min)
            }
            None => format!("must contain at least {} items of the described form", contains.min),
        });
        false
    }

    fn object(
        &mut self,
        rules: &ObjectRules,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        mut seen: Seen<'_>,
    ) -> bool {
        let mut fits = counts(rules.min, rules.max, node.count(), "properties", place, &mut out);
        let mut required = 0;
        for (number, (key, value)) in node.members().enumerate() {
            let known = rules.properties.binary_search_by(|property| (*property.name).cmp(key));
            let property = known.ok().and_then(|at| rules.properties.get(at));
            let mut is_known = false;
            if let Some(property) = property {
                let here = place.name(&property.name);
                required += usize::from(property.required);
                if property.read_only {
                    report(&mut out, &here, || "is read-only and must not be sent".to_owned());
                    fits = false;
                } else if let Some(id) = property.schema {
                    fits &= self.check(id, value, &here, out.as_deref_mut(), None);
                }
                is_known = property.schema.is_some();
            }
            for (pattern, id) in &rules.patterns {
                if self.spend(1 + key.len() / 8) && pattern.matches(key) {
                    is_known = true;
                    fits &= self.check(*id, value, &place.unnamed(), out.as_deref_mut(), None);
                }
            }
            if let (false, Some(id)) = (is_known, rules.others) {
                fits &= self.other(id, number, value, place, &mut out);
                is_known = true;
            }
            if let Some(id) = rules.names {
                fits &= self.property_name(id, number, key, place, &mut out);
            }
            if let (true, Some(seen)) = (is_known, seen.as_deref_mut()) {
                seen[number] = true;
            }
            if self.is_done(fits, out.as_deref()) {
                return false;
            }
        }
        if required < rules.required {
            fits = false;
            if out.is_some() && self.spend(rules.required * node.count()) {
                let absent = rules
                    .properties
                    .iter()
                    .filter(|property| property.required && node.get(&property.name).is_none());
                absent.for_each(|property| {
                    report(&mut out, &place.name(&property.name), || "is required".to_owned())
                });
            }
        }
        fits && self.together(rules, node, place, &mut out)
    }

    /// A property that only the client knows by name.
    fn other(
        &mut self,
        id: SchemaId,
        number: usize,
        value: Node<'_>,
        place: &Place<'_>,
        out: &mut Sink<'_>,
    ) -> bool {
        let is_forbidden = self
            .schemas
            .get(usize::try_from(id).unwrap_or(usize::MAX))
            .is_some_and(|schema| schema.types == Types::NONE);
        if is_forbidden {
            report(out, place, || {
                format!(
                    "must not have properties that are not declared (see property {})",
                    number + 1
                )
            });
            return false;
        }
        self.check(id, value, &place.unnamed(), out.as_deref_mut(), None)
    }

    fn property_name(
        &mut self,
        id: SchemaId,
        number: usize,
        key: &str,
        place: &Place<'_>,
        out: &mut Sink<'_>,
    ) -> bool {
        let mut name = super::json::Document::default();
        name.push_string(key.to_owned());
        let fits = self.fits(id, name.root());
        if !fits {
            report(out, place, || {
                format!("must not have a property of such a name (see property {})", number + 1)
            });
        }
        fits
    }

    fn together(
        &mut self,
        rules: &ObjectRules,
        node: Node<'_>,
        place: &Place<'_>,
        out: &mut Sink<'_>,
    ) -> bool {
        let mut fits = true;
        for (name, others) in &rules.together {
            if !self.spend(node.count() * (1 + others.len())) {
                return false;
            }
            if node.get(name).is_none() {
                continue;
            }
            for other in others.iter().filter(|other| node.get(other).is_none()) {
                report(out, &place.name(other), || format!("is required beside {name}"));
                fits = false;
            }
        }
        fits
    }

    fn any_of(
        &mut self,
        branches: &Branches,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        mut seen: Seen<'_>,
    ) -> bool {
        let mut fits = false;
        for id in &branches.schemas {
            let mut own = seen.as_ref().map(|seen| vec![false; seen.len()]);
            if self.check(*id, node, place, None, own.as_mut()) {
                fits = true;
                match (seen.as_deref_mut(), own) {
                    (Some(seen), Some(own)) => merge(seen, &own),
                    _ => break,
                }
            }
        }
        if !fits {
            self.explain(branches, node, place, &mut out);
        }
        fits
    }

    fn one_of(
        &mut self,
        branches: &Branches,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        mut seen: Seen<'_>,
    ) -> bool {
        let before = self.unknown;
        let mut fitting = 0;
        for id in &branches.schemas {
            let mut own = seen.as_ref().map(|seen| vec![false; seen.len()]);
            if self.check(*id, node, place, None, own.as_mut()) {
                fitting += 1;
                if let (Some(seen), Some(own)) = (seen.as_deref_mut(), own) {
                    merge(seen, &own);
                }
            }
        }
        match fitting {
            0 => {
                self.explain(branches, node, place, &mut out);
                false
            }
            1 => true,
            _ if self.unknown != before => true,
            _ => {
                report(&mut out, place, || {
                    "must have exactly one of the possible forms, and has several".to_owned()
                });
                false
            }
        }
    }

    /// Says why no branch fits: by the one that is meant, if that can be told.
    fn explain(
        &mut self,
        branches: &Branches,
        node: Node<'_>,
        place: &Place<'_>,
        out: &mut Sink<'_>,
    ) {
        if out.is_none() || self.exhausted {
            return;
        }
        let mut meant = None;
        if let Some(discriminator) = &branches.discriminator
            && node.value() == Value::Object
        {
            let here = place.name(&discriminator.property);
            let Some(named) = node.get(&discriminator.property) else {
                return report(out, &here, || "is required".to_owned());
            };
            let Value::String(text) = named.value() else {
                return report(out, &here, || "must be a string".to_owned());
            };
            meant = discriminator.names.iter().find(|(name, _)| **name == *text).map(|(_, id)| *id);
            if meant.is_none() {
                return report(out, &here, || "must name one of the possible forms".to_owned());
            }
        }
        if meant.is_none() {
            let mut possible =
                branches.schemas.iter().copied().filter(|id| self.could_be(*id, node, 0));
            meant = possible.next().filter(|_| possible.next().is_none());
        }
        let said = meant.is_some_and(|id| !self.check(id, node, place, out.as_deref_mut(), None));
        if !said {
            report(out, place, || "must have one of the possible forms".to_owned());
        }
    }

    /// Whether the type of the value does not exclude the branch.
    fn could_be(&self, id: SchemaId, node: Node<'_>, depth: usize) -> bool {
        let Some(schema) = self.schemas.get(usize::try_from(id).unwrap_or(usize::MAX)) else {
            return true;
        };
        schema.types.admits(node)
            && schema.rules.iter().all(|rule| match rule {
                Rule::Ref(id) if depth < 8 => self.could_be(*id, node, depth + 1),
                Rule::AllOf(ids) if depth < 8 => {
                    ids.iter().all(|id| self.could_be(*id, node, depth + 1))
                }
                _ => true,
            })
    }

    fn unevaluated_properties(
        &mut self,
        id: SchemaId,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        seen: Seen<'_>,
    ) -> bool {
        let Some(seen) = seen else { return true };
        let mut fits = true;
        for (number, (_, value)) in node.members().enumerate() {
            if !std::mem::replace(&mut seen[number], true) {
                fits &= self.other(id, number, value, place, &mut out);
            }
        }
        fits
    }

    fn unevaluated_items(
        &mut self,
        id: SchemaId,
        node: Node<'_>,
        place: &Place<'_>,
        mut out: Sink<'_>,
        seen: Seen<'_>,
    ) -> bool {
        let Some(seen) = seen else { return true };
        let mut fits = true;
        for (index, item) in node.items().enumerate() {
            if !std::mem::replace(&mut seen[index], true) {
                fits &= self.check(id, item, &place.index(index), out.as_deref_mut(), None);
            }
        }
        fits
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

fn merge(into: &mut [bool], from: &[bool]) {
    into.iter_mut().zip(from).for_each(|(into, from)| *into |= from);
}

fn counts(
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

/// Lengths are counted in characters, and only where the bytes do not settle it.
fn length_fits(rules: &TextRules, text: &str) -> bool {
    let (min, max) = (rules.min.unwrap_or(0), rules.max.unwrap_or(usize::MAX));
    if text.len() < min || text.len() / 4 > max {
        return false;
    }
    if text.len() <= max && text.len() / 4 >= min {
        return true;
    }
    (min..=max).contains(&text.chars().count())
}

fn numbers(rules: &NumberRules, text: &str, place: &Place<'_>, mut out: Sink<'_>) -> bool {
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

/// Whether two values are the same, whatever the spelling of numbers and the order of members.
fn equal(one: Node<'_>, other: Node<'_>) -> bool {
    match (one.value(), other.value()) {
        (Value::Number(one), Value::Number(other)) => number::compare(one, other).is_eq(),
        (Value::Array, Value::Array) => {
            one.count() == other.count()
                && one.items().zip(other.items()).all(|(one, other)| equal(one, other))
        }
        (Value::Object, Value::Object) if one.count() > FEW => {
            one.count() == other.count()
                && sorted(one)
                    .iter()
                    .zip(sorted(other))
                    .all(|((key, one), (other_key, other))| *key == other_key && equal(*one, other))
        }
        (Value::Object, Value::Object) => {
            one.count() == other.count()
                && one
                    .members()
                    .all(|(key, one)| other.get(key).is_some_and(|other| equal(one, other)))
        }
        (one, other) => one == other,
    }
}

fn sorted(node: Node<'_>) -> Vec<(&str, Node<'_>)> {
    let mut members: Vec<_> = node.members().collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    members
}

/// The same for equal values.
fn hash(state: &RandomState, node: Node<'_>) -> u64 {
    use std::hash::BuildHasher;
    let mut hasher = state.build_hasher();
    match node.value() {
        Value::Null => hasher.write_u8(0),
        Value::Bool(value) => hasher.write_u8(1 + u8::from(value)),
        Value::Number(text) => {
            hasher.write_u8(3);
            Decimal::of(text).hash(&mut hasher);
        }
        Value::String(text) => {
            hasher.write_u8(4);
            hasher.write(text.as_bytes());
        }
        Value::Array => {
            hasher.write_u8(5);
            node.items().for_each(|item| hasher.write_u64(hash(state, item)));
        }
        Value::Object => {
            hasher.write_u8(6);
            // Members have no order, so that their hashes are added up.
            let sum = node.members().fold(0_u64, |sum, (key, value)| {
                let mut member = state.build_hasher();
                member.write(key.as_bytes());
                member.write_u64(hash(state, value));
                sum.wrapping_add(member.finish())
            });
            hasher.write_u64(sum);
        }
    }
    hasher.finish()
}
