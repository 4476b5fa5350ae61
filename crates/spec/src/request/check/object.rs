//! Objects and their members.

use super::{Checker, Seen, Sink, counts, report};
use crate::request::{
    findings::Place,
    json::{Document, Node},
    schema::{ObjectRules, SchemaId, Types},
};

impl Checker<'_> {
    pub(super) fn object(
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
    pub(super) fn other(
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

    pub(super) fn property_name(
        &mut self,
        id: SchemaId,
        number: usize,
        key: &str,
        place: &Place<'_>,
        out: &mut Sink<'_>,
    ) -> bool {
        let mut name = Document::default();
        name.push_string(key.to_owned());
        let fits = self.fits(id, name.root());
        if !fits {
            report(out, place, || {
                format!("must not have a property of such a name (see property {})", number + 1)
            });
        }
        fits
    }

    pub(super) fn unevaluated_properties(
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
}
