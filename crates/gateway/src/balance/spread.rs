//! The arithmetic of spreading calls: turns laid out by weight, chance, and hashing.

/// Longest list of turns that weights are laid out on.
pub(super) const TURNS_MAX: usize = 4_096;

/// A number that looks like chance, made of one that does not (the finaliser of SplitMix64).
pub(super) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The hash of what calls have in common: the same on every gateway and after every restart (FNV-1a, mixed).
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let hashed = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hashed)
}

/// How much a target with this seed wants a key (weighted rendezvous hashing). The highest score wins, so that a target
/// that leaves gives away its own keys and no others move.
pub(super) fn score(key: u64, seed: u64, weight: u16) -> f64 {
    // In (0, 1): the upper 53 bits, moved off zero.
    let unit = ((mix(key ^ seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -unit.ln()
}

/// Lays out turns so that the share of each place is its weight and heavy ones are spread (smooth weighted round
/// robin); weights are divided by their greatest common divisor first.
pub(super) fn lay_out(weights: &[u16]) -> impl Iterator<Item = usize> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    (0..total).take(TURNS_MAX).filter_map(move |_| {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        // Among equals the first takes its turn.
        let (at, most) = credit.iter_mut().enumerate().rev().max_by_key(|(_, credit)| **credit)?;
        *most -= total;
        Some(at)
    })
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights() {
        let turns = |weights: &[u16]| lay_out(weights).collect::<Vec<_>>();
        assert_eq!(turns(&[1, 1]), [0, 1]);
        assert_eq!(turns(&[100, 50]), [0, 1, 0]);
        assert_eq!(turns(&[5, 0, 5]), [0, 2]);
        assert!(turns(&[0, 0]).is_empty());
        let many = turns(&[u16::MAX, 1]);
        assert_eq!(many.len(), TURNS_MAX);
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash(b"a"), mix(0xaf63_dc4c_8601_ec8c));
    }
}
