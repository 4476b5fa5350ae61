//! Numbers without rounding: compared and divided as they are spelled, however long they are.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A number as its sign, its digits without zeros at either end, and where the decimal point stands before them:
/// the value is `0.DIGITS` times ten to the power of `point`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'n> {
    is_negative: bool,
    /// Digits before and after the point, as they are spelled.
    halves: [&'n [u8]; 2],
    first: usize,
    end: usize,
    point: i64,
}

/// A bound from a schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Box<str>", into = "Box<str>")]
pub(super) struct Bound {
    text: Box<str>,
    small: Option<i64>,
}

/// A number that others have to be multiples of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Box<str>", into = "Box<str>")]
pub(super) struct Divisor {
    text: Box<str>,
    digits: u64,
    exponent: i64,
}

impl<'n> Decimal<'n> {
    /// Takes a number of JSON apart.
    pub(super) fn of(text: &'n str) -> Self {
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, saturating(exponent)),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let halves = [whole.as_bytes(), fraction.as_bytes()];
        let length = whole.len() + fraction.len();
        let mut number = Self { is_negative, halves, first: 0, end: length, point: 0 };
        while number.first < number.end && number.at(number.first) == b'0' {
            number.first += 1;
        }
        while number.end > number.first && number.at(number.end - 1) == b'0' {
            number.end -= 1;
        }
        number.point = signed(whole.len()) - signed(number.first) + exponent;
        number
    }

    pub(super) fn is_integer(&self) -> bool {
        self.is_zero() || self.point >= signed(self.end - self.first)
    }

    /// Feeds what makes it equal to others, however it is spelled.
    pub(super) fn hash(&self, state: &mut impl std::hash::Hasher) {
        state.write_u8(u8::from(self.is_negative && !self.is_zero()));
        state.write_i64(if self.is_zero() { 0 } else { self.point });
        self.digits().for_each(|digit| state.write_u8(digit));
    }

    fn is_zero(&self) -> bool {
        self.first == self.end
    }

    fn at(&self, index: usize) -> u8 {
        let [whole, fraction] = self.halves;
        if index < whole.len() { whole[index] } else { fraction[index - whole.len()] }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        (self.first..self.end).map(|index| self.at(index))
    }

    fn compare_magnitude(&self, other: &Self) -> Ordering {
        match (self.is_zero(), other.is_zero()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => {
                self.point.cmp(&other.point).then_with(|| self.digits().cmp(other.digits()))
            }
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let is_below = |number: &Self| number.is_negative && !number.is_zero();
        match (is_below(self), is_below(other)) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.compare_magnitude(other),
            (true, true) => other.compare_magnitude(self),
        }
    }
}

/// How two numbers of JSON compare.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    match (small(one), small(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => Decimal::of(one).compare(&Decimal::of(other)),
    }
}

impl Bound {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// How a number of JSON compares with the bound.
    pub(super) fn compared(&self, number: &str) -> Ordering {
        match (small(number), self.small) {
            (Some(number), Some(bound)) => number.cmp(&bound),
            _ => Decimal::of(number).compare(&Decimal::of(&self.text)),
        }
    }
}

impl From<Box<str>> for Bound {
    fn from(text: Box<str>) -> Self {
        let small = small(&text);
        Self { text, small }
    }
}

impl From<Bound> for Box<str> {
    fn from(bound: Bound) -> Self {
        bound.text
    }
}

impl Divisor {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a number of JSON is a multiple.
    pub(super) fn divides(&self, number: &str) -> bool {
        let number = Decimal::of(number);
        if number.is_zero() {
            return true;
        }
        let exponent = number.point - signed(number.end - number.first);
        let Ok(zeros) = u64::try_from(exponent - self.exponent) else {
            // Its last digit, which is not zero, stands behind the last digit of the divisor.
            return false;
        };
        let modulus = u128::from(self.digits);
        let rest = number
            .digits()
            .fold(0, |rest: u128, digit| (rest * 10 + u128::from(digit - b'0')) % modulus);
        (rest * power_of_ten(zeros, modulus)).is_multiple_of(modulus)
    }
}

impl TryFrom<Box<str>> for Divisor {
    type Error = &'static str;

    fn try_from(text: Box<str>) -> Result<Self, &'static str> {
        let number = Decimal::of(&text);
        if number.is_negative || number.is_zero() || number.end - number.first > 18 {
            return Err("the divisor must be above 0 and have at most 18 digits");
        }
        let digits = number.digits().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let exponent = number.point - signed(number.end - number.first);
        Ok(Self { digits, exponent, text })
    }
}

impl From<Divisor> for Box<str> {
    fn from(divisor: Divisor) -> Self {
        divisor.text
    }
}

fn power_of_ten(mut exponent: u64, modulus: u128) -> u128 {
    let (mut power, mut factor) = (1 % modulus, 10 % modulus);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = power * factor % modulus;
        }
        factor = factor * factor % modulus;
        exponent >>= 1;
    }
    power
}

/// The value of a short integer without exponent or fraction.
fn small(text: &str) -> Option<i64> {
    if text.len() > 18 { None } else { text.parse().ok() }
}

/// Exponents beyond what any machine can count to only have to stay on their side.
fn saturating(exponent: &str) -> i64 {
    const FAR: i64 = i64::MAX / 4;
    exponent.parse().unwrap_or(if exponent.starts_with('-') { -FAR } else { FAR }).clamp(-FAR, FAR)
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_compare_as_what_they_are() {
        for (one, other, expected) in [
            ("1", "1.0", Ordering::Equal),
            ("10e-1", "1", Ordering::Equal),
            ("-0", "0.000e7", Ordering::Equal),
            ("1e400", "1e399", Ordering::Greater),
            ("-1e400", "1", Ordering::Less),
            ("0.1", "0.09999999999999999999999999", Ordering::Greater),
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("1e99999999999999999999", "9", Ordering::Greater),
            ("1e-99999999999999999999", "0", Ordering::Greater),
            ("-2", "-1", Ordering::Less),
        ] {
            assert_eq!(compare(one, other), expected, "{one} {other}");
            assert_eq!(compare(other, one), expected.reverse(), "{other} {one}");
        }
    }

    #[test]
    fn integers_are_told_by_their_value() {
        for text in ["0", "-3", "1.0", "1.50e1", "1e400", "0.0"] {
            assert!(Decimal::of(text).is_integer(), "{text}");
        }
        for text in ["0.5", "1e-1", "15e-1", "1.00001"] {
            assert!(!Decimal::of(text).is_integer(), "{text}");
        }
    }

    #[test]
    fn multiples_are_exact() {
        let divides =
            |divisor: &str, number| Divisor::try_from(Box::from(divisor)).unwrap().divides(number);
        for (divisor, number) in [
            ("0.01", "19.99"),
            ("0.1", "0.3"),
            ("7", "-49"),
            ("3", "3e400"),
            ("1e2", "12300"),
            ("5", "0"),
        ] {
            assert!(divides(divisor, number), "{divisor} {number}");
        }
        for (divisor, number) in
            [("0.01", "19.999"), ("7", "50"), ("3", "1e400"), ("1e2", "1230"), ("2", "1e-400")]
        {
            assert!(!divides(divisor, number), "{divisor} {number}");
        }
        assert!(Divisor::try_from(Box::from("0")).is_err());
    }

    proptest! {
        #[test]
        fn small_numbers_agree_with_the_machine(one in -99_999_i64..99_999, other in -99_999_i64..99_999, by in 1_i64..99) {
            let spelled = format!("{}.{:03}e3", one / 1_000, (one % 1_000).abs());
            let spelled = if one < 0 && !spelled.starts_with('-') { format!("-{spelled}") } else { spelled };
            prop_assert_eq!(compare(&spelled, &other.to_string()), one.cmp(&other));
            let divisor = Divisor::try_from(by.to_string().into_boxed_str()).unwrap();
            prop_assert_eq!(divisor.divides(&spelled), one % by == 0);
        }
    }
}
