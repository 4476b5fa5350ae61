//! Whether two values are equal, and hashes that agree with it.

use std::hash::Hasher;

use ahash::RandomState;

use super::FEW;
use crate::request::{
    json::{Node, Value},
    number::{self, Decimal},
};

/// Whether two values are the same, whatever the spelling of numbers and the order of members.
pub(super) fn equal(one: Node<'_>, other: Node<'_>) -> bool {
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
pub(super) fn hash(state: &RandomState, node: Node<'_>) -> u64 {
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
