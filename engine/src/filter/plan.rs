//! The typed plan: names are field ids, constants are folded, and every predicate fits the type of its column.

use std::collections::HashSet;

use super::like::Pattern;
use super::number::Number;
use super::syntax::{Arithmetic, Comparison, Step};

/// A condition that is true, false or, for nulls, unknown in each row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Predicate {
    Always(bool),
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
    /// A boolean field is true.
    IsTrue {
        field: i64,
    },
    IsNull {
        field: i64,
    },
    /// A field of numbers compares with a constant.
    Number {
        field: i64,
        comparison: Comparison,
        value: Number,
    },
    /// A varchar field compares with a constant, byte by byte.
    Text {
        field: i64,
        comparison: Comparison,
        value: String,
    },
    IntIn {
        field: i64,
        values: HashSet<i64>,
    },
    /// By bits, the rounding of float fields applied and zero positive.
    FloatIn {
        field: i64,
        singles: HashSet<u32>,
        doubles: HashSet<u64>,
    },
    TextIn {
        field: i64,
        values: HashSet<String>,
    },
    Like {
        field: i64,
        pattern: Pattern,
    },
    /// There is a value other than null at a JSON path. Never unknown.
    Exists(JsonPath),
    /// An array at a JSON path holds all, or any, of the values.
    Contains {
        path: JsonPath,
        values: Vec<serde_json::Value>,
        all: bool,
    },
    /// The value at a JSON path equals an array.
    EqualsArray {
        path: JsonPath,
        value: serde_json::Value,
        negated: bool,
    },
    /// What has no faster form: evaluated row by row.
    Compare {
        left: Scalar,
        comparison: Comparison,
        right: Scalar,
    },
    ScalarIn {
        value: Scalar,
        values: ConstantSet,
    },
    ScalarLike {
        value: Scalar,
        pattern: Pattern,
    },
}

/// A value computed from a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Bool(bool),
    Number(Number),
    Text(String),
    Field(i64),
    Json(JsonPath),
    Negate(Box<Scalar>),
    BitNot(Box<Scalar>),
    Arithmetic(Arithmetic, Box<Scalar>, Box<Scalar>),
}

/// A place inside a JSON field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonPath {
    pub(super) field: i64,
    /// Rows without the dynamic field have no dynamic values; rows without another field are null.
    pub(super) dynamic: bool,
    pub(super) steps: Vec<Step>,
}

/// Constants of mixed types, for `in` on JSON values and computed numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ConstantSet {
    pub(super) ints: HashSet<i128>,
    /// Numbers that are not whole.
    pub(super) floats: Vec<f64>,
    pub(super) texts: HashSet<String>,
    /// Whether `false` and `true` are in it.
    pub(super) bools: [bool; 2],
}

impl ConstantSet {
    pub(super) fn insert_number(&mut self, number: Number) {
        match number.normalised() {
            Number::Int(value) => drop(self.ints.insert(value)),
            Number::Float(value) => self.floats.push(value),
        }
    }

    pub(super) fn contains_number(&self, number: Number) -> bool {
        match number.normalised() {
            Number::Int(value) => self.ints.contains(&value),
            Number::Float(value) => self.floats.contains(&value),
        }
    }
}
