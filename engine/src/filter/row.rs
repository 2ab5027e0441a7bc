//! Row-by-row evaluation of what has no columnar form: arithmetic, JSON values, fields compared with fields. Nothing is
//! allocated per row, except for JSON strings with escapes.

use std::borrow::Cow;

use super::eval::{JsonColumn, Missing};
use super::json::{self, Found};
use super::number::Number;
use super::plan::Scalar;
use super::syntax::{Arithmetic, Comparison, Step};
use crate::column::{Column, Rows, Values};

/// A scalar of one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RowValue<'a> {
    /// Comparisons with it are unknown.
    Null,
    /// A JSON value that is missing or of no comparable type: comparisons with it are false.
    Absent,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
}

impl RowValue<'_> {
    /// Three-valued; values of different types compare false, whatever the comparison.
    pub(super) fn compare(&self, comparison: Comparison, other: &RowValue<'_>) -> Option<bool> {
        match (self, other) {
            (RowValue::Null, _) | (_, RowValue::Null) => None,
            (RowValue::Number(left), RowValue::Number(right)) => Some(comparison.holds(left.order(*right))),
            (RowValue::Text(left), RowValue::Text(right)) => Some(comparison.holds(Some(left.cmp(right)))),
            (RowValue::Bool(left), RowValue::Bool(right)) => {
                Some(!comparison.is_ordering() && comparison.holds(Some(left.cmp(right))))
            }
            _ => Some(false),
        }
    }
}

/// A scalar bound to the columns of some rows.
pub(super) enum RowScalar<'a> {
    Constant(RowValue<'a>),
    Column(&'a Column),
    Json(JsonColumn<'a>, &'a [Step]),
    Negate(Box<RowScalar<'a>>),
    BitNot(Box<RowScalar<'a>>),
    Arithmetic(Arithmetic, Box<RowScalar<'a>>, Box<RowScalar<'a>>),
}

impl<'a> RowScalar<'a> {
    pub(super) fn bind(scalar: &'a Scalar, rows: &'a Rows) -> Self {
        match scalar {
            Scalar::Bool(value) => RowScalar::Constant(RowValue::Bool(*value)),
            Scalar::Number(number) => RowScalar::Constant(RowValue::Number(*number)),
            Scalar::Text(text) => RowScalar::Constant(RowValue::Text(Cow::Borrowed(text))),
            Scalar::Field(field) => rows.column(*field).map_or(RowScalar::Constant(RowValue::Null), RowScalar::Column),
            Scalar::Json(path) => RowScalar::Json(JsonColumn::new(rows, path), &path.steps),
            Scalar::Negate(operand) => RowScalar::Negate(Box::new(Self::bind(operand, rows))),
            Scalar::BitNot(operand) => RowScalar::BitNot(Box::new(Self::bind(operand, rows))),
            Scalar::Arithmetic(operator, left, right) => {
                RowScalar::Arithmetic(*operator, Box::new(Self::bind(left, rows)), Box::new(Self::bind(right, rows)))
            }
        }
    }

    pub(super) fn value(&self, row: usize) -> RowValue<'a> {
        match self {
            RowScalar::Constant(value) => value.clone(),
            RowScalar::Column(column) => column_value(column, row),
            RowScalar::Json(texts, path) => match texts.text(row).map(|text| json::find(text, path)) {
                Err(Missing::Null) => RowValue::Null,
                Ok(Some(Found::Bool(value))) => RowValue::Bool(value),
                Ok(Some(Found::Number(number))) => RowValue::Number(number),
                Ok(Some(Found::Text(text))) => RowValue::Text(text),
                _ => RowValue::Absent,
            },
            RowScalar::Negate(operand) => operand.value(row).map_number(Number::negated),
            RowScalar::BitNot(operand) => operand.value(row).map_number(|number| match number {
                Number::Int(value) => Some(Number::Int(!value)),
                Number::Float(_) => None,
            }),
            RowScalar::Arithmetic(operator, left, right) => match (left.value(row), right.value(row)) {
                (RowValue::Null, _) | (_, RowValue::Null) => RowValue::Null,
                (RowValue::Number(left), RowValue::Number(right)) => {
                    operator.apply(left, right).map_or(RowValue::Null, RowValue::Number)
                }
                _ => RowValue::Absent,
            },
        }
    }
}

impl<'a> RowValue<'a> {
    fn map_number(self, operation: impl Fn(Number) -> Option<Number>) -> RowValue<'a> {
        match self {
            RowValue::Null => RowValue::Null,
            RowValue::Number(number) => operation(number).map_or(RowValue::Null, RowValue::Number),
            _ => RowValue::Absent,
        }
    }
}

fn column_value(column: &Column, row: usize) -> RowValue<'_> {
    if !column.is_valid(row) {
        return RowValue::Null;
    }
    let int = |value: i64| RowValue::Number(Number::Int(value.into()));
    match &column.values {
        Values::Bool(values) => RowValue::Bool(values[row]),
        Values::Int8(values) => int(values[row].into()),
        Values::Int16(values) => int(values[row].into()),
        Values::Int32(values) => int(values[row].into()),
        Values::Int64(values) => int(values[row]),
        Values::Float(values) => RowValue::Number(Number::Float(values[row].into())),
        Values::Double(values) => RowValue::Number(Number::Float(values[row])),
        Values::VarChar(texts) => RowValue::Text(Cow::Borrowed(texts.text(row))),
        Values::Json(_) | Values::FloatVector { .. } => RowValue::Null,
    }
}
