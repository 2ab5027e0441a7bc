//! Evaluates a plan over the columns of rows: a bit set per predicate, combined by three-valued logic.

use std::collections::HashSet;

use fixedbitset::FixedBitSet;

use super::json;
use super::number::Number;
use super::plan::{JsonPath, Predicate};
use super::row::{RowScalar, RowValue};
use super::syntax::Comparison;
use crate::column::{Column, Rows, Strings, Values};

/// Rows where a predicate is true and where it is false; in the others it is unknown.
pub(super) struct Truth {
    pub(super) yes: FixedBitSet,
    no: FixedBitSet,
}

impl Truth {
    fn constant(count: usize, value: bool) -> Self {
        let mut all = FixedBitSet::with_capacity(count);
        all.insert_range(..);
        let none = FixedBitSet::with_capacity(count);
        if value { Self { yes: all, no: none } } else { Self { yes: none, no: all } }
    }

    fn unknown(count: usize) -> Self {
        Self { yes: FixedBitSet::with_capacity(count), no: FixedBitSet::with_capacity(count) }
    }

    /// `yes` as found in the values; null rows become unknown.
    fn of_column(mut yes: FixedBitSet, validity: Option<&FixedBitSet>) -> Self {
        let mut no = yes.clone();
        no.toggle_range(..);
        if let Some(validity) = validity {
            yes.intersect_with(validity);
            no.intersect_with(validity);
        }
        Self { yes, no }
    }

    fn of_rows(count: usize, mut holds: impl FnMut(usize) -> Option<bool>) -> Self {
        let mut truth = Self::unknown(count);
        for row in 0..count {
            match holds(row) {
                Some(true) => truth.yes.insert(row),
                Some(false) => truth.no.insert(row),
                None => {}
            }
        }
        truth
    }
}

/// Where `predicate` holds.
pub(super) fn truth(predicate: &Predicate, rows: &Rows) -> Truth {
    let count = rows.count;
    match predicate {
        Predicate::Always(value) => Truth::constant(count, *value),
        Predicate::Not(inner) => {
            let Truth { yes, no } = truth(inner, rows);
            Truth { yes: no, no: yes }
        }
        Predicate::And(parts) => parts.iter().fold(Truth::constant(count, true), |mut all, part| {
            let part = truth(part, rows);
            all.yes.intersect_with(&part.yes);
            all.no.union_with(&part.no);
            all
        }),
        Predicate::Or(parts) => parts.iter().fold(Truth::constant(count, false), |mut any, part| {
            let part = truth(part, rows);
            any.yes.union_with(&part.yes);
            any.no.intersect_with(&part.no);
            any
        }),
        Predicate::IsNull { field } => match rows.column(*field) {
            None => Truth::constant(count, true),
            Some(Column { validity: None, .. }) => Truth::constant(count, false),
            Some(Column { validity: Some(valid), .. }) => {
                let mut null = valid.clone();
                null.toggle_range(..);
                Truth { yes: null, no: valid.clone() }
            }
        },
        Predicate::IsTrue { field } => column_truth(rows, *field, |values| match values {
            Values::Bool(values) => Some(select(values, |value| value)),
            _ => None,
        }),
        Predicate::Number { field, comparison, value } => {
            column_truth(rows, *field, |values| compare_numbers(values, *comparison, *value))
        }
        Predicate::IntIn { field, values: wanted } => column_truth(rows, *field, |values| match values {
            Values::Int8(values) => Some(select(values, |value| wanted.contains(&value.into()))),
            Values::Int16(values) => Some(select(values, |value| wanted.contains(&value.into()))),
            Values::Int32(values) => Some(select(values, |value| wanted.contains(&value.into()))),
            Values::Int64(values) => Some(select(values, |value| wanted.contains(&value))),
            _ => None,
        }),
        Predicate::FloatIn { field, singles, doubles } => column_truth(rows, *field, |values| match values {
            Values::Float(values) => Some(select(values, |value| singles.contains(&(value + 0.0).to_bits()))),
            Values::Double(values) => Some(select(values, |value| doubles.contains(&(value + 0.0).to_bits()))),
            _ => None,
        }),
        Predicate::Text { field, comparison, value } => {
            let wanted = value.as_bytes();
            text_truth(rows, *field, |texts, row| comparison.holds(Some(texts.get(row).cmp(wanted))))
        }
        Predicate::TextIn { field, values } => text_truth(rows, *field, |texts, row| contains_text(values, texts, row)),
        Predicate::Like { field, pattern } => text_truth(rows, *field, |texts, row| pattern.matches(texts.text(row))),
        Predicate::Exists(path) => {
            let texts = JsonColumn::new(rows, path);
            let found = |row| texts.text(row).ok().and_then(|text| json::find(text, &path.steps));
            Truth::of_rows(count, |row| Some(!matches!(found(row), None | Some(json::Found::Null))))
        }
        Predicate::Contains { path, values, all } => json_truth(rows, path, |found| {
            let serde_json::Value::Array(elements) = found else { return false };
            let mut present = values.iter().map(|wanted| elements.iter().any(|element| json::equal(element, wanted)));
            if *all { present.all(|is| is) } else { present.any(|is| is) }
        }),
        Predicate::EqualsArray { path, value, negated } => {
            json_truth(rows, path, |found| found.is_array() && json::equal(found, value) != *negated)
        }
        Predicate::Compare { left, comparison, right } => {
            let (left, right) = (RowScalar::bind(left, rows), RowScalar::bind(right, rows));
            Truth::of_rows(count, |row| left.value(row).compare(*comparison, &right.value(row)))
        }
        Predicate::ScalarIn { value, values } => {
            let value = RowScalar::bind(value, rows);
            Truth::of_rows(count, |row| match value.value(row) {
                RowValue::Null => None,
                RowValue::Absent => Some(false),
                RowValue::Bool(value) => Some(values.bools[usize::from(value)]),
                RowValue::Number(number) => Some(values.contains_number(number)),
                RowValue::Text(text) => Some(values.texts.contains(text.as_ref())),
            })
        }
        Predicate::ScalarLike { value, pattern } => {
            let value = RowScalar::bind(value, rows);
            Truth::of_rows(count, |row| match value.value(row) {
                RowValue::Null => None,
                RowValue::Text(text) => Some(pattern.matches(&text)),
                _ => Some(false),
            })
        }
    }
}

/// The truth of a predicate on one column; rows without the column are null.
fn column_truth(rows: &Rows, field: i64, select: impl FnOnce(&Values) -> Option<FixedBitSet>) -> Truth {
    let column = rows.column(field);
    match column.and_then(|column| Some((select(&column.values)?, column.validity.as_ref()))) {
        Some((yes, validity)) => Truth::of_column(yes, validity),
        None => Truth::unknown(rows.count),
    }
}

fn text_truth(rows: &Rows, field: i64, holds: impl Fn(&Strings, usize) -> bool) -> Truth {
    column_truth(rows, field, |values| match values {
        Values::VarChar(texts) => Some(blocks(texts.len(), |row| holds(texts, row))),
        _ => None,
    })
}

/// The truth of a predicate on the JSON value at a path; where there is no such value it is false.
fn json_truth(rows: &Rows, path: &JsonPath, holds: impl Fn(&serde_json::Value) -> bool) -> Truth {
    let texts = JsonColumn::new(rows, path);
    Truth::of_rows(rows.count, |row| match texts.text(row) {
        Ok(text) => Some(json::find_tree(text, &path.steps).is_some_and(|found| holds(&found))),
        Err(Missing::Null) => None,
        Err(Missing::Absent) => Some(false),
    })
}

/// Why a row has no JSON text.
pub(super) enum Missing {
    /// The field is null: comparisons are unknown.
    Null,
    /// The row has no dynamic values: comparisons are false, as for any absent key.
    Absent,
}

/// The JSON texts of a column.
pub(super) struct JsonColumn<'a> {
    column: Option<(&'a Column, &'a Strings)>,
    dynamic: bool,
}

impl<'a> JsonColumn<'a> {
    pub(super) fn new(rows: &'a Rows, path: &JsonPath) -> Self {
        let column = rows.column(path.field).and_then(|column| match &column.values {
            Values::Json(texts) => Some((column, texts)),
            _ => None,
        });
        Self { column, dynamic: path.dynamic }
    }

    pub(super) fn text(&self, row: usize) -> Result<&'a str, Missing> {
        match self.column {
            Some((column, texts)) if column.is_valid(row) => Ok(texts.text(row)),
            _ if self.dynamic => Err(Missing::Absent),
            _ => Err(Missing::Null),
        }
    }
}

fn contains_text(wanted: &HashSet<String>, texts: &Strings, row: usize) -> bool {
    wanted.contains(texts.text(row))
}

fn compare_numbers(values: &Values, comparison: Comparison, constant: Number) -> Option<FixedBitSet> {
    let (low, high) = int_range(comparison, constant);
    let inside = |value: i64| (low <= value) & (value <= high);
    let mut selected = match values {
        Values::Int8(values) => select(values, |value| inside(value.into())),
        Values::Int16(values) => select(values, |value| inside(value.into())),
        Values::Int32(values) => select(values, |value| inside(value.into())),
        Values::Int64(values) => select(values, inside),
        // The constant is rounded as the field's values were, so that `price == 0.1` finds what was inserted as 0.1.
        Values::Float(values) => return Some(compare_floats(values, comparison, constant.as_float() as f32)),
        Values::Double(values) => {
            return Some(match constant {
                Number::Float(constant) => compare_floats(values, comparison, constant),
                // A large integer may have no double of the same value.
                int => select(values, |value| comparison.holds(Number::Float(value).order(int))),
            });
        }
        _ => return None,
    };
    if comparison == Comparison::NotEqual {
        selected.toggle_range(..);
    }
    Some(selected)
}

fn compare_floats<T: PartialOrd + Copy>(values: &[T], comparison: Comparison, constant: T) -> FixedBitSet {
    match comparison {
        Comparison::Equal => select(values, |value| value == constant),
        Comparison::NotEqual => select(values, |value| value != constant),
        Comparison::Less => select(values, |value| value < constant),
        Comparison::LessEqual => select(values, |value| value <= constant),
        Comparison::Greater => select(values, |value| value > constant),
        Comparison::GreaterEqual => select(values, |value| value >= constant),
    }
}

/// The 64-bit integers for which the comparison holds, as an inclusive range; an empty one has `low > high`. For
/// `NotEqual` the range of `Equal`.
pub(super) fn int_range(comparison: Comparison, constant: Number) -> (i64, i64) {
    let (floor, ceiling) = match constant {
        Number::Int(value) => (value, value),
        // Casts saturate far outside of 64 bits.
        Number::Float(value) => (value.floor() as i128, value.ceil() as i128),
    };
    let (low, high) = match comparison {
        Comparison::Equal | Comparison::NotEqual if floor != ceiling => (1, 0),
        Comparison::Equal | Comparison::NotEqual => (floor, floor),
        Comparison::Less => (i128::MIN, ceiling.saturating_sub(1)),
        Comparison::LessEqual => (i128::MIN, floor),
        Comparison::Greater => (floor.saturating_add(1), i128::MAX),
        Comparison::GreaterEqual => (ceiling, i128::MAX),
    };
    let (least, greatest) = (i128::from(i64::MIN), i128::from(i64::MAX));
    match low.max(least) <= high.min(greatest) {
        true => (low.max(least) as i64, high.min(greatest) as i64),
        false => (1, 0),
    }
}

fn select<T: Copy>(values: &[T], holds: impl Fn(T) -> bool) -> FixedBitSet {
    blocks(values.len(), |row| holds(values[row]))
}

/// A bit per row, put together a machine word at a time.
fn blocks(count: usize, holds: impl Fn(usize) -> bool) -> FixedBitSet {
    const BITS: usize = usize::BITS as usize;
    let words = (0..count.div_ceil(BITS)).map(|word| {
        let rows = word * BITS..count.min((word + 1) * BITS);
        rows.enumerate().fold(0, |bits, (bit, row)| bits | usize::from(holds(row)) << bit)
    });
    FixedBitSet::with_capacity_and_blocks(count, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_ranges_are_exact_at_the_edges() {
        use Comparison::{Equal, Greater, GreaterEqual, Less, LessEqual};
        let (int, float) = (Number::Int, Number::Float);
        for (comparison, constant, expected) in [
            (Equal, int(5), (5, 5)),
            (Equal, float(5.0), (5, 5)),
            (Equal, float(5.5), (1, 0)),
            (Equal, int(1 << 70), (1, 0)),
            (Less, float(5.5), (i64::MIN, 5)),
            (Less, float(5.0), (i64::MIN, 4)),
            (LessEqual, float(-5.5), (i64::MIN, -6)),
            (Greater, float(-5.5), (-5, i64::MAX)),
            (GreaterEqual, float(5.5), (6, i64::MAX)),
            (Greater, int(i64::MAX.into()), (1, 0)),
            (Less, int(i64::MIN.into()), (1, 0)),
            (Less, float(f64::INFINITY), (i64::MIN, i64::MAX)),
            (Greater, int(i128::MAX), (1, 0)),
        ] {
            assert_eq!(int_range(comparison, constant), expected, "{comparison:?} {constant:?}");
        }
    }

    #[test]
    fn words_at_the_end_are_cut_to_the_rows() {
        for count in [0, 1, 63, 64, 65, 200] {
            let bits = blocks(count, |row| row % 3 == 0);
            assert_eq!(bits.len(), count);
            assert_eq!(bits.ones().collect::<Vec<_>>(), (0..count).step_by(3).collect::<Vec<_>>());
        }
    }
}
