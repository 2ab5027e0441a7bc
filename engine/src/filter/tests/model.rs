//! The reference: conditions as data, evaluated one row at a time in the plainest way, against the engine's answer for
//! the same conditions as text.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{Row, collection, columns};
use crate::filter::Filter;

#[derive(Debug, Clone)]
enum Condition {
    Numbers(&'static str, Num, Num),
    Range(i32, Num, i32),
    NumberIn(Num, Vec<i32>, bool),
    Text(&'static str, String),
    TextIn(Vec<String>, bool),
    Like(String),
    IsNull(&'static str, bool),
    Flag(&'static str, bool),
    Json(Path, &'static str, Value),
    JsonIn(Path, Vec<Value>, bool),
    Exists(Path),
    Contains(Path, Vec<Value>, bool),
    Not(Box<Condition>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
}

#[derive(Debug, Clone)]
enum Num {
    Int(i32),
    /// Tenths.
    Float(i32),
    Field(&'static str),
    Binary(&'static str, Box<Num>, Box<Num>),
}

#[derive(Debug, Clone)]
enum Path {
    Meta(&'static str),
    Dynamic(&'static str),
}

impl Condition {
    fn text(&self) -> String {
        let list = |values: Vec<String>| format!("[{}]", values.join(", "));
        let not = |negated: &bool| if *negated { "not " } else { "" };
        let join = |parts: &[Condition], with: &str| {
            parts.iter().map(|part| format!("({})", part.text())).collect::<Vec<_>>().join(with)
        };
        match self {
            Condition::Numbers(operator, left, right) => format!("{} {operator} {}", left.text(), right.text()),
            Condition::Range(low, middle, high) => format!("{low} <= {} < {high}", middle.text()),
            Condition::NumberIn(value, values, negated) => {
                format!(
                    "{} {}in {}",
                    value.text(),
                    not(negated),
                    list(values.iter().map(ToString::to_string).collect())
                )
            }
            Condition::Text(operator, value) => format!("name {operator} {}", json!(value)),
            Condition::TextIn(values, negated) => {
                format!(
                    "name {}in {}",
                    not(negated),
                    list(values.iter().map(|value| json!(value).to_string()).collect())
                )
            }
            Condition::Like(pattern) => format!("name like \"{pattern}\""),
            Condition::IsNull(field, negated) => format!("{field} is {}null", not(negated)),
            Condition::Flag(operator, value) => format!("flag {operator} {value}"),
            Condition::Json(path, operator, value) => format!("{} {operator} {value}", path.text()),
            Condition::JsonIn(path, values, negated) => {
                format!("{} {}in {}", path.text(), not(negated), list(values.iter().map(ToString::to_string).collect()))
            }
            Condition::Exists(path) => format!("exists {}", path.text()),
            Condition::Contains(path, values, all) => {
                let name = if *all { "json_contains_all" } else { "json_contains_any" };
                format!("{name}({}, {})", path.text(), list(values.iter().map(ToString::to_string).collect()))
            }
            Condition::Not(inner) => format!("not ({})", inner.text()),
            Condition::And(parts) => join(parts, " and "),
            Condition::Or(parts) => join(parts, " or "),
        }
    }

    fn holds(&self, row: &Row) -> Option<bool> {
        match self {
            Condition::Numbers(operator, left, right) => {
                // Constants meet float fields in single precision.
                let single = |value: &Num, other: &Num| matches!(other, Num::Field("price")) && value.is_constant();
                let round = |value: f64, single: bool| if single { f64::from(value as f32) } else { value };
                let l = round(left.value(row)?.float(), single(left, right));
                let r = round(right.value(row)?.float(), single(right, left));
                Some(order(operator, l.partial_cmp(&r)?))
            }
            Condition::Range(low, middle, high) => {
                let low = Condition::Numbers("<=", Num::Int(*low), middle.clone()).holds(row);
                both(low, Condition::Numbers("<", middle.clone(), Num::Int(*high)).holds(row))
            }
            Condition::NumberIn(value, values, negated) => {
                let value = value.value(row)?.float();
                Some(values.iter().any(|wanted| f64::from(*wanted) == value) != *negated)
            }
            Condition::Text(operator, value) => Some(order(operator, row.name.as_ref()?.cmp(value))),
            Condition::TextIn(values, negated) => Some(values.contains(row.name.as_ref()?) != *negated),
            Condition::Like(pattern) => {
                let (pattern, text): (Vec<char>, Vec<char>) =
                    (pattern.chars().collect(), row.name.as_ref()?.chars().collect());
                Some(like(&pattern, &text))
            }
            Condition::IsNull(field, negated) => {
                let null = match *field {
                    "name" => row.name.is_none(),
                    "tiny" => row.tiny.is_none(),
                    "meta" => row.meta.is_none(),
                    _ => row.price.is_none(),
                };
                Some(null != *negated)
            }
            Condition::Flag(operator, value) => Some((row.flag? == *value) == (*operator == "==")),
            Condition::Json(path, operator, wanted) => Some(match path.value(row)? {
                Some(found) => compare_json(operator, &found, wanted),
                None => false,
            }),
            Condition::JsonIn(path, values, negated) => {
                let found = path.value(row)?;
                Some(
                    values.iter().any(|wanted| found.as_ref().is_some_and(|found| compare_json("==", found, wanted)))
                        != *negated,
                )
            }
            Condition::Exists(path) => Some(path.value(row).flatten().is_some_and(|found| !found.is_null())),
            Condition::Contains(path, values, all) => {
                let found = path.value(row)?;
                let Some(Value::Array(elements)) = found else { return Some(false) };
                let mut present =
                    values.iter().map(|wanted| elements.iter().any(|element| compare_json("==", element, wanted)));
                Some(if *all { present.all(|is| is) } else { present.any(|is| is) })
            }
            Condition::Not(inner) => inner.holds(row).map(|holds| !holds),
            Condition::And(parts) => parts.iter().map(|part| part.holds(row)).fold(Some(true), both),
            Condition::Or(parts) => {
                let negated = parts.iter().map(|part| part.holds(row).map(|holds| !holds));
                negated.fold(Some(true), both).map(|holds| !holds)
            }
        }
    }
}

/// Three-valued `and`.
fn both(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn order(operator: &str, order: std::cmp::Ordering) -> bool {
    match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn compare_json(operator: &str, found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::String(found), Value::String(wanted)) => order(operator, found.cmp(wanted)),
        (Value::Bool(found), Value::Bool(wanted)) => {
            ["==", "!="].contains(&operator) && order(operator, found.cmp(wanted))
        }
        (Value::Number(found), Value::Number(wanted)) => {
            found.as_f64().partial_cmp(&wanted.as_f64()).is_some_and(|result| order(operator, result))
        }
        _ => false,
    }
}

fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| like(rest, &text[skip..])),
        Some(('_', rest)) => !text.is_empty() && like(rest, &text[1..]),
        Some((literal, rest)) => text.first() == Some(literal) && like(rest, &text[1..]),
    }
}

/// Small enough that a double holds every integer that comes up.
#[derive(Clone, Copy)]
enum Plain {
    Int(i64),
    Float(f64),
}

impl Plain {
    fn float(self) -> f64 {
        match self {
            Plain::Int(value) => value as f64,
            Plain::Float(value) => value,
        }
    }
}

impl Num {
    fn text(&self) -> String {
        match self {
            Num::Int(value) => value.to_string(),
            Num::Float(tenths) => format!("{:.1}", f64::from(*tenths) / 10.0),
            Num::Field(name) => (*name).to_owned(),
            Num::Binary(operator, left, right) => format!("({} {operator} {})", left.text(), right.text()),
        }
    }

    fn is_constant(&self) -> bool {
        match self {
            Num::Field(_) => false,
            Num::Binary(_, left, right) => left.is_constant() && right.is_constant(),
            _ => true,
        }
    }

    fn value(&self, row: &Row) -> Option<Plain> {
        Some(match self {
            Num::Int(value) => Plain::Int((*value).into()),
            Num::Float(tenths) => Plain::Float(f64::from(*tenths) / 10.0),
            Num::Field("id") => Plain::Int(row.id),
            Num::Field("tiny") => Plain::Int(row.tiny?.into()),
            Num::Field("num") => Plain::Int(row.num?.into()),
            Num::Field("price") => Plain::Float(row.price?.into()),
            Num::Field(_) => Plain::Float(row.score),
            Num::Binary(operator, left, right) => match (left.value(row)?, right.value(row)?) {
                (Plain::Int(left), Plain::Int(right)) => Plain::Int(match *operator {
                    "+" => left + right,
                    "-" => left - right,
                    "*" => left * right,
                    "/" => left.checked_div(right)?,
                    _ => left.checked_rem(right)?,
                }),
                (left, right) => {
                    let (left, right) = (left.float(), right.float());
                    Plain::Float(match *operator {
                        "+" => left + right,
                        "-" => left - right,
                        "*" => left * right,
                        _ if right == 0.0 => return None,
                        "/" => left / right,
                        _ => left % right,
                    })
                }
            },
        })
    }
}

impl Path {
    fn text(&self) -> String {
        match self {
            Path::Meta(key) => format!("meta[\"{key}\"]"),
            Path::Dynamic(key) => (*key).to_owned(),
        }
    }

    /// `None`: the field is null; `Some(None)`: no such key.
    fn value(&self, row: &Row) -> Option<Option<Value>> {
        match self {
            Path::Meta(key) => Some(row.meta.as_ref()?.get(key).cloned()),
            Path::Dynamic(key) => Some(row.dynamic.as_ref().and_then(|values| values.get(key).cloned())),
        }
    }
}

fn comparison() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="])
}

fn number() -> impl Strategy<Value = Num> {
    let field = prop::sample::select(vec!["id", "tiny", "num", "price", "score"]).prop_map(Num::Field).boxed();
    let leaf =
        prop_oneof![3 => field.clone(), 1 => (-12i32..12).prop_map(Num::Int), 1 => (-30i32..30).prop_map(Num::Float)];
    leaf.prop_recursive(2, 6, 2, move |inner| {
        let any = (prop::sample::select(vec!["+", "-", "*"]), inner.clone(), inner.clone());
        // A constant zero as divisor is refused, a field that is zero is null.
        let divisor = prop_oneof![field.clone(), (1i32..9).prop_map(Num::Int)];
        let division = (prop::sample::select(vec!["/", "%"]), inner, divisor);
        let binary = |(operator, left, right)| Num::Binary(operator, Box::new(left), Box::new(right));
        prop_oneof![any.prop_map(binary), division.prop_map(binary)]
    })
}

/// A field against a constant, either way round: what has fast paths.
fn plain_comparison() -> impl Strategy<Value = Condition> {
    let field = prop::sample::select(vec!["id", "tiny", "num", "price", "score"]).prop_map(Num::Field);
    let constant = prop_oneof![(-12i32..12).prop_map(Num::Int), (-30i32..30).prop_map(Num::Float)];
    (comparison(), field, constant, any::<bool>()).prop_map(|(operator, field, constant, mirrored)| match mirrored {
        true => Condition::Numbers(operator, constant, field),
        false => Condition::Numbers(operator, field, constant),
    })
}

fn path() -> impl Strategy<Value = Path> {
    let key = || prop::sample::select(vec!["a", "b"]);
    prop_oneof![key().prop_map(Path::Meta), key().prop_map(Path::Dynamic)]
}

fn constant() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-4i64..4).prop_map(|value| json!(value)),
        (-8i32..8).prop_map(|value| json!(f64::from(value) / 2.0)),
        "[ab]{0,2}".prop_map(|value| json!(value)),
        any::<bool>().prop_map(|value| json!(value)),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let list = || prop::collection::vec(-12i32..12, 0..4);
    let words = || prop::collection::vec("[ab]{0,2}", 0..4);
    let constants = || prop::collection::vec(constant(), 0..4);
    let nullable = prop::sample::select(vec!["name", "tiny", "meta", "price"]);
    let leaf = prop_oneof![
        4 => plain_comparison(),
        1 => (comparison(), number(), number())
            .prop_map(|(operator, left, right)| Condition::Numbers(operator, left, right)),
        1 => (-12i32..6, number(), -6i32..12).prop_map(|(low, middle, high)| Condition::Range(low, middle, high)),
        1 => (number(), list(), any::<bool>())
            .prop_map(|(value, values, negated)| Condition::NumberIn(value, values, negated)),
        1 => (comparison(), "[ab]{0,2}").prop_map(|(operator, value)| Condition::Text(operator, value)),
        1 => (words(), any::<bool>()).prop_map(|(values, negated)| Condition::TextIn(values, negated)),
        1 => "[ab%_]{0,4}".prop_map(Condition::Like),
        1 => (nullable, any::<bool>()).prop_map(|(field, negated)| Condition::IsNull(field, negated)),
        1 => (prop::sample::select(vec!["==", "!="]), any::<bool>())
            .prop_map(|(operator, value)| Condition::Flag(operator, value)),
        1 => (path(), comparison(), constant()).prop_map(|(path, operator, value)| Condition::Json(path, operator, value)),
        1 => (path(), constants(), any::<bool>())
            .prop_map(|(path, values, negated)| Condition::JsonIn(path, values, negated)),
        1 => path().prop_map(Condition::Exists),
        1 => (path(), constants(), any::<bool>()).prop_map(|(path, values, all)| Condition::Contains(path, values, all)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let parts = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
            parts.clone().prop_map(Condition::And),
            parts.prop_map(Condition::Or),
        ]
    })
}

fn object() -> impl Strategy<Value = Option<Value>> {
    let value = prop_oneof![
        4 => constant(),
        1 => Just(Value::Null),
        2 => prop::collection::vec(constant(), 0..4).prop_map(Value::Array),
        1 => constant().prop_map(|value| json!({"a": value})),
    ];
    let object = (prop::option::of(value.clone()), prop::option::of(value)).prop_map(|(a, b)| {
        let entries = [("a", a), ("b", b)].into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(entries.collect())
    });
    prop::option::of(object)
}

fn row() -> impl Strategy<Value = Row> {
    let numbers = (
        -12i64..12,
        prop::option::of(-12i8..12),
        prop::option::of(-12i32..12),
        prop::option::of((-30i32..30).prop_map(|tenths| tenths as f32 / 10.0)),
        (-30i32..30).prop_map(|tenths| f64::from(tenths) / 10.0),
    );
    (numbers, prop::option::of("[ab]{0,3}"), prop::option::of(any::<bool>()), object(), object()).prop_map(
        |((id, tiny, num, price, score), name, flag, meta, dynamic)| Row {
            id,
            tiny,
            num,
            price,
            score,
            name,
            flag,
            meta,
            dynamic,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn columns_give_the_answer_of_a_row_at_a_time(condition in condition(), rows in prop::collection::vec(row(), 0..9)) {
        let text = condition.text();
        let filter = Filter::parse(&text, &collection(true), &HashMap::new())
            .map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let selected: Vec<usize> = filter.evaluate(&columns(&rows)).ones().collect();
        let expected: Vec<usize> = (0..rows.len()).filter(|row| condition.holds(&rows[*row]) == Some(true)).collect();
        prop_assert_eq!(selected, expected, "{}", text);
    }
}
