//! Looks values up inside JSON texts, without building a tree: what lies beside the path is skipped, and scalars are
//! borrowed from the text where they contain no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::number::Number;
use super::syntax::Step;

/// A value found in a JSON text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    /// An array or an object.
    Container,
}

/// The value at `path` of `text`, if there is one.
pub(super) fn find<'a>(text: &'a str, path: &[Step]) -> Option<Found<'a>> {
    seek(text, path, ScalarSeed)
}

/// The value at `path` of `text` as a tree, for comparisons with arrays.
pub(super) fn find_tree(text: &str, path: &[Step]) -> Option<serde_json::Value> {
    seek(text, path, TreeSeed)
}

/// Whether two JSON values are equal, with numbers compared by value (`1 == 1.0`).
pub(super) fn equal(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let order =
                Number::from_json(left).zip(Number::from_json(right)).and_then(|(left, right)| left.order(right));
            order == Some(std::cmp::Ordering::Equal)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (left, right) => left == right,
    }
}

fn seek<'a, L: Leaf<'a>>(text: &'a str, path: &[Step], leaf: L) -> Option<L::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Seek { path, leaf }.deserialize(&mut deserializer).ok().flatten()
}

/// What is done with the value once it is reached.
trait Leaf<'de>: DeserializeSeed<'de> + Copy {}
impl<'de, T: DeserializeSeed<'de> + Copy> Leaf<'de> for T {}

#[derive(Clone, Copy)]
struct Seek<'p, L> {
    path: &'p [Step],
    leaf: L,
}

impl<'de, L: Leaf<'de>> DeserializeSeed<'de> for Seek<'_, L> {
    type Value = Option<L::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.path.is_empty() {
            true => self.leaf.deserialize(deserializer).map(Some),
            false => deserializer.deserialize_any(self),
        }
    }
}

/// Reached while steps of the path are left: only objects and arrays lead on.
impl<'de, L: Leaf<'de>> Visitor<'de> for Seek<'_, L> {
    type Value = Option<L::Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let Some((step, path)) = self.path.split_first() else { return Ok(None) };
        while let Some(wanted) = map.next_key_seed(KeyIs(&step.key))? {
            match wanted {
                // The last of several equal keys counts, as everywhere else.
                true => found = map.next_value_seed(Seek { path, leaf: self.leaf })?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let Some((step, path)) = self.path.split_first() else { return Ok(None) };
        if let Some(index) = step.index {
            let mut before = 0;
            while before < index && seq.next_element::<IgnoredAny>()?.is_some() {
                before += 1;
            }
            if before == index {
                found = seq.next_element_seed(Seek { path, leaf: self.leaf })?.flatten();
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

struct KeyIs<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[derive(Clone, Copy)]
struct TreeSeed;

impl<'de> DeserializeSeed<'de> for TreeSeed {
    type Value = serde_json::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        serde::Deserialize::deserialize(deserializer)
    }
}

#[derive(Clone, Copy)]
struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Found<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Found::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Found::Number(Number::Int(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Found::Number(Number::Int(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Found::Number(Number::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Borrowed(value)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Container)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[&str]) -> Vec<Step> {
        steps.iter().map(|key| Step { key: (*key).to_owned(), index: key.parse().ok() }).collect()
    }

    #[test]
    fn values_are_found_at_their_paths() {
        let text = r#"{"a": {"b": [1, -2, 2.5, "x", "\u00fc", {"c": null}], "7": true}, "a\"b": 18446744073709551615, "a2": {}}"#;
        let text_found = |text: &str| Some(Found::Text(Cow::Owned(text.to_owned())));
        for (steps, expected) in [
            (&["a", "b", "0"][..], Some(Found::Number(Number::Int(1)))),
            (&["a", "b", "1"], Some(Found::Number(Number::Int(-2)))),
            (&["a", "b", "2"], Some(Found::Number(Number::Float(2.5)))),
            (&["a", "b", "3"], text_found("x")),
            (&["a", "b", "4"], text_found("\u{fc}")),
            (&["a", "b", "5", "c"], Some(Found::Null)),
            (&["a", "b", "6"], None),
            (&["a", "b", "3", "x"], None),
            (&["a", "7"], Some(Found::Bool(true))),
            (&["a\"b"], Some(Found::Number(Number::Int(u64::MAX.into())))),
            (&["a2"], Some(Found::Container)),
            (&["b"], None),
            (&[], Some(Found::Container)),
        ] {
            assert_eq!(find(text, &path(steps)), expected, "{steps:?}");
        }
        assert_eq!(find_tree(text, &path(&["a", "b", "5"])), Some(serde_json::json!({"c": null})));
        assert_eq!(find("{\"a\": ", &path(&["a"])), None);
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        assert_eq!(find(r#"{"a": 1, "a": 2}"#, &path(&["a"])), Some(Found::Number(Number::Int(2))));
    }
}
