//! Numbers of filters: exact integers wide enough for every field and literal, and doubles.

use std::cmp::Ordering;

use super::syntax::Arithmetic;

/// 2^127: doubles of this size and above lie outside of the range of the integers.
const MAX_INT: f64 = 170141183460469231731687303715884105728.0;

/// A number. Integers are 128 bits wide, so that sums and products of 64-bit fields do not wrap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    /// The exact order of two numbers, whatever their representation; none with a NaN.
    pub(super) fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Int(left), Number::Int(right)) => Some(left.cmp(&right)),
            (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right),
            (Number::Int(left), Number::Float(right)) => order_int_float(left, right),
            (Number::Float(left), Number::Int(right)) => order_int_float(right, left).map(Ordering::reverse),
        }
    }

    /// The same number as an integer where it is one, so that equal numbers are equal values.
    pub(super) fn normalised(self) -> Number {
        match self {
            Number::Float(value) if value.fract() == 0.0 && value.abs() < MAX_INT => Number::Int(value as i128),
            other => other,
        }
    }

    pub(super) fn as_float(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }

    /// The number of a JSON value.
    pub(super) fn from_json(number: &serde_json::Number) -> Option<Number> {
        let int = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        int.map(Number::Int).or_else(|| number.as_f64().map(Number::Float))
    }

    pub(super) fn negated(self) -> Option<Number> {
        Some(match self {
            Number::Int(value) => Number::Int(value.checked_neg()?),
            Number::Float(value) => Number::Float(-value),
        })
    }
}

fn order_int_float(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= MAX_INT {
        return Some(Ordering::Less);
    }
    if float < -MAX_INT {
        return Some(Ordering::Greater);
    }
    // Equal whole parts: what the double has behind the point decides.
    Some(int.cmp(&(float.trunc() as i128)).then_with(|| match float.fract() {
        rest if rest > 0.0 => Ordering::Less,
        rest if rest < 0.0 => Ordering::Greater,
        _ => Ordering::Equal,
    }))
}

impl Arithmetic {
    /// The result, or none where there is none: division by zero, a shift by other than 0 to 63 bits, an overflow of 128
    /// bits, bit operators on a fraction. Integers divide towards zero.
    pub(super) fn apply(self, left: Number, right: Number) -> Option<Number> {
        let (Number::Int(a), Number::Int(b)) = (left, right) else {
            return self.apply_floats(left.as_float(), right.as_float()).map(Number::Float);
        };
        let shift = || u32::try_from(b).ok().filter(|bits| *bits < 64);
        match self {
            Arithmetic::Add => a.checked_add(b),
            Arithmetic::Subtract => a.checked_sub(b),
            Arithmetic::Multiply => a.checked_mul(b),
            Arithmetic::Divide => a.checked_div(b),
            Arithmetic::Remainder => a.checked_rem(b),
            Arithmetic::Power if b < 0 => return self.apply_floats(a as f64, b as f64).map(Number::Float),
            Arithmetic::Power => u32::try_from(b).ok().and_then(|exponent| a.checked_pow(exponent)),
            Arithmetic::ShiftLeft => shift().and_then(|bits| a.checked_mul(1i128 << bits)),
            Arithmetic::ShiftRight => shift().map(|bits| a >> bits),
            Arithmetic::And => Some(a & b),
            Arithmetic::Or => Some(a | b),
            Arithmetic::Xor => Some(a ^ b),
        }
        .map(Number::Int)
    }

    fn apply_floats(self, left: f64, right: f64) -> Option<f64> {
        let result = match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide if right != 0.0 => left / right,
            Arithmetic::Remainder if right != 0.0 => left % right,
            Arithmetic::Power => left.powf(right),
            _ => return None,
        };
        Some(result).filter(|result| !result.is_nan())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_and_doubles_compare_exactly() {
        use Number::{Float, Int};
        for (left, right, order) in [
            (Int(9007199254740993), Float(9007199254740992.0), Ordering::Greater),
            (Int(i128::from(i64::MAX)), Float(9223372036854775808.0), Ordering::Less),
            (Int(2), Float(2.5), Ordering::Less),
            (Int(-2), Float(-2.5), Ordering::Greater),
            (Int(0), Float(-0.0), Ordering::Equal),
            (Int(i128::MAX), Float(f64::INFINITY), Ordering::Less),
            (Int(i128::MIN), Float(f64::NEG_INFINITY), Ordering::Greater),
        ] {
            assert_eq!(left.order(right), Some(order), "{left:?} {right:?}");
            assert_eq!(right.order(left), Some(order.reverse()), "{left:?} {right:?}");
        }
        assert_eq!(Int(1).order(Float(f64::NAN)), None);
    }

    #[test]
    fn arithmetic_without_a_result_gives_none() {
        use Number::{Float, Int};
        assert_eq!(Arithmetic::Divide.apply(Int(7), Int(0)), None);
        assert_eq!(Arithmetic::Divide.apply(Int(-7), Int(2)), Some(Int(-3)));
        assert_eq!(Arithmetic::Remainder.apply(Float(1.0), Int(0)), None);
        assert_eq!(Arithmetic::ShiftLeft.apply(Int(1), Int(64)), None);
        assert_eq!(Arithmetic::ShiftLeft.apply(Int(1), Int(-1)), None);
        assert_eq!(Arithmetic::And.apply(Float(1.5), Int(1)), None);
        assert_eq!(Arithmetic::Power.apply(Int(2), Int(-1)), Some(Float(0.5)));
        assert_eq!(Arithmetic::Power.apply(Int(10), Int(100)), None);
    }

    proptest! {
        #[test]
        fn small_numbers_order_the_same_as_doubles(int in -1_000_000i64..1_000_000, float in -1e6f64..1e6) {
            prop_assert_eq!(Number::Int(int.into()).order(Number::Float(float)), (int as f64).partial_cmp(&float));
        }
    }
}
