//! The syntax tree of a filter expression: what was written, before any name is looked up.

use super::error::Span;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    pub(super) span: Span,
    /// Levels of the tree below and including this node; bounded by the parser, so that whatever walks it can recurse.
    pub(super) depth: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ExprKind {
    Literal(Literal),
    List(Vec<Expr>),
    Name(String),
    Path {
        name: String,
        steps: Vec<Step>,
    },
    Template(String),
    Unary(Unary, Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `low < middle <= high`, both comparisons in the same direction.
    Range {
        low: Box<Expr>,
        lower: Comparison,
        middle: Box<Expr>,
        upper: Comparison,
        high: Box<Expr>,
    },
    In {
        value: Box<Expr>,
        list: Box<Expr>,
        negated: bool,
    },
    Like {
        value: Box<Expr>,
        pattern: Box<Expr>,
    },
    IsNull {
        value: Box<Expr>,
        negated: bool,
    },
    Exists(Box<Expr>),
    Not(Box<Expr>),
    /// All of them; flat, so that long chains are not deep.
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Call {
        name: String,
        arguments: Vec<Expr>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

/// One step into a JSON value: `["key"]` or `[0]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// The key in an object; for a number its digits, since `[0]` also finds the key "0".
    pub(super) key: String,
    /// The position in an array.
    pub(super) index: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Plus,
    Minus,
    BitNot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    ShiftLeft,
    ShiftRight,
    And,
    Or,
    Xor,
}

impl Arithmetic {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
            Arithmetic::Power => "**",
            Arithmetic::ShiftLeft => "<<",
            Arithmetic::ShiftRight => ">>",
            Arithmetic::And => "&",
            Arithmetic::Or => "|",
            Arithmetic::Xor => "^",
        }
    }

    /// Whether it works on the bits of integers.
    pub(super) fn is_bitwise(self) -> bool {
        use Arithmetic::{And, Or, ShiftLeft, ShiftRight, Xor};
        matches!(self, And | Or | Xor | ShiftLeft | ShiftRight)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Comparison {
    pub(super) fn from_symbol(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterEqual,
            _ => return None,
        })
    }

    /// The comparison that holds for `b, a` exactly when this one holds for `a, b`.
    pub(super) fn mirrored(self) -> Self {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessEqual => Comparison::GreaterEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterEqual => Comparison::LessEqual,
            same => same,
        }
    }

    pub(super) fn is_ordering(self) -> bool {
        !matches!(self, Comparison::Equal | Comparison::NotEqual)
    }

    /// Whether both point the same way, as the two of a range must.
    pub(super) fn same_direction(self, other: Self) -> bool {
        let upward = |comparison| matches!(comparison, Comparison::Less | Comparison::LessEqual);
        self.is_ordering() && other.is_ordering() && upward(self) == upward(other)
    }

    /// Whether it holds between two values of that order; `None` is the order of NaN.
    pub(super) fn holds(self, order: Option<std::cmp::Ordering>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        match self {
            Comparison::Equal => order == Some(Equal),
            Comparison::NotEqual => order != Some(Equal),
            Comparison::Less => order == Some(Less),
            Comparison::LessEqual => matches!(order, Some(Less | Equal)),
            Comparison::Greater => order == Some(Greater),
            Comparison::GreaterEqual => matches!(order, Some(Greater | Equal)),
        }
    }
}
