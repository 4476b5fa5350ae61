//! Arrays and their items.

use ahash::RandomState;

use super::{
    Checker, FEW, Seen, Sink, counts,
    equality::{equal, hash},
    report,
};
use crate::request::{
    findings::Place,
    json::Node,
    schema::{ArrayRules, Contains, SchemaId},
};

impl Checker<'_> {
    pub(super) fn array(
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

    pub(super) fn unique(&mut self, node: Node<'_>, place: &Place<'_>, out: &mut Sink<'_>) -> bool {
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

    pub(super) fn contains(
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

    pub(super) fn unevaluated_items(
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
}
