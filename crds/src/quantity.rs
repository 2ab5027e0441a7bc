//! Amounts of CPU, memory and storage in Kubernetes' notation: `500m`, `4Gi`, `2`, `1.5G`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount, kept as the text that the user wrote. YAML writers may leave out the quotes of a whole number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(String);

impl Quantity {
    /// Takes a text as it is; [`Quantity::thousandths`] says whether it is a quantity.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The amount in thousandths, rounded up as Kubernetes does, or nothing if the text is not a quantity.
    pub fn thousandths(&self) -> Option<u128> {
        thousandths(&self.0)
    }

    /// The amount in whole units (bytes, cores), rounded up.
    pub fn units(&self) -> Option<u64> {
        u64::try_from(self.thousandths()?.div_ceil(1000)).ok()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntOrString;
        impl de::Visitor<'_> for IntOrString {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity, like 500m, 4Gi or 2")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(IntOrString)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 24,
            "pattern": PATTERN,
        })
    }
}

/// Positive quantities only: a negative request means nothing.
pub const PATTERN: &str = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|[eE][0-9]{1,2})?$";

/// Whether two texts are the same amount, as the API server's rewriting of `1000m` to `1` keeps it.
pub fn same_amount(a: &str, b: &str) -> bool {
    match (thousandths(a), thousandths(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn thousandths(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 || fraction.len() > 9 {
        return None;
    }
    // Everything in billionths first, so that the smallest suffix (n) is still exact.
    let scale: u128 = match suffix {
        "" => 1_000_000_000,
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "k" => 10u128.pow(12),
        "M" => 10u128.pow(15),
        "G" => 10u128.pow(18),
        "T" => 10u128.pow(21),
        "P" => 10u128.pow(24),
        "E" => 10u128.pow(27),
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => 1_000_000_000,
        exponent if exponent.starts_with(['e', 'E']) => {
            let power: u32 = exponent[1..].parse().ok().filter(|power| *power <= 18)?;
            10u128.pow(9 + power)
        }
        _ => return None,
    };
    let binary: u128 = match suffix {
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        _ => 1,
    };
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let places = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let billionths = digits.checked_mul(scale)?.checked_mul(binary)?.div_ceil(places);
    Some(billionths.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_mean_what_kubernetes_says() {
        let cases = [
            ("1", 1_000),
            ("500m", 500),
            ("1.5", 1_500),
            (".5", 500),
            ("2k", 2_000_000),
            ("4Gi", 4 * (1 << 30) * 1000),
            ("1.5Gi", (3 << 29) * 1000),
            ("1e3", 1_000_000),
            ("1E", 10u128.pow(18) * 1000),
            ("100n", 1),
        ];
        for (text, expected) in cases {
            assert_eq!(thousandths(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_none() {
        for text in ["", ".", "Gi", "1.2.3", "-1", "1 Gi", "1gi", "1e99", "x"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }

    #[test]
    fn rewriting_by_the_api_server_is_the_same_amount() {
        assert!(same_amount("1000m", "1"));
        assert!(same_amount("4096Mi", "4Gi"));
        assert!(!same_amount("4Gi", "4G"));
        assert!(!same_amount("a", "a b"));
    }

    #[test]
    fn a_number_without_quotes_is_taken() {
        let quantity: Quantity = serde_json::from_str("2").expect("a number");
        assert_eq!(quantity.units(), Some(2));
    }
}
