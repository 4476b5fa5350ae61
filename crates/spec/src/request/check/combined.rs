//! Schemas that are combined: all, any or one of them.

use super::{Checker, Seen, Sink, merge, report};
use crate::request::{
    findings::Place,
    json::{Node, Value},
    schema::{Branches, ObjectRules, Rule, SchemaId},
};

impl Checker<'_> {
    pub(super) fn together(
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

    pub(super) fn any_of(
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

    pub(super) fn one_of(
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
    pub(super) fn explain(
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
    pub(super) fn could_be(&self, id: SchemaId, node: Node<'_>, depth: usize) -> bool {
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
}
