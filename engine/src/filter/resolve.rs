//! Turns the syntax tree into the typed plan: looks names up in the schema, checks types, folds constants.

use std::collections::HashMap;

use super::error::{Problem, Span};
use super::like::Pattern;
use super::number::Number;
use super::operand::{Constant, Operand, Type, Typed, constant_of_template};
use super::plan::{ConstantSet, JsonPath, Predicate, Scalar};
use super::syntax::{Arithmetic, Comparison, Expr, ExprKind, Literal, Step, Unary};
use crate::proto::schema::{DataType, TemplateValue};
use crate::schema::{Collection, Field};

/// Functions of the language that the engine does not serve, by the beginning of their names.
const UNSUPPORTED: [&str; 9] =
    ["text_match", "phrase_match", "random_sample", "element_filter", "match_", "st_", "array_", "iso", "interval"];

/// Most fields that an error message lists.
const LISTED_FIELDS: usize = 24;

pub(super) struct Resolver<'a> {
    pub(super) collection: &'a Collection,
    pub(super) templates: &'a HashMap<String, TemplateValue>,
}

/// What a name or path stands for.
enum Place<'a> {
    Field(&'a Field),
    Json(JsonPath),
}

impl<'a> Resolver<'a> {
    /// The plan of an expression that is a condition.
    pub(super) fn condition(&self, expr: &Expr) -> Result<Predicate, Problem> {
        let conditions = |parts: &[Expr]| parts.iter().map(|part| self.condition(part)).collect::<Result<Vec<_>, _>>();
        match &expr.kind {
            ExprKind::And(parts) => Ok(Predicate::And(conditions(parts)?)),
            ExprKind::Or(parts) => Ok(Predicate::Or(conditions(parts)?)),
            ExprKind::Not(part) => Ok(negate(self.condition(part)?)),
            ExprKind::Compare(comparison, left, right) => self.comparison(left, *comparison, right, &expr.span),
            ExprKind::Range { low, lower, middle, upper, high } => Ok(Predicate::And(vec![
                self.comparison(low, *lower, middle, &expr.span)?,
                self.comparison(middle, *upper, high, &expr.span)?,
            ])),
            ExprKind::In { value, list, negated } => {
                let predicate = self.membership(value, list)?;
                Ok(if *negated { negate(predicate) } else { predicate })
            }
            ExprKind::Like { value, pattern } => self.like(value, pattern),
            ExprKind::IsNull { value, negated } => self.null_test(value, *negated),
            ExprKind::Exists(operand) => self.exists(operand),
            ExprKind::Call { name, arguments } => self.call(name, arguments, &expr.span),
            _ => match self.operand(expr)? {
                Operand::Scalar(Typed { scalar: Scalar::Bool(value), .. }) => Ok(Predicate::Always(value)),
                Operand::Scalar(Typed { scalar: Scalar::Field(field), kind: Type::Bool, .. }) => {
                    Ok(Predicate::IsTrue { field })
                }
                other => Err(Problem::new(expr.span.clone(), format!("{} is not a condition", other.describe()))
                    .remedy("compare it with something, such as `a == 1`")),
            },
        }
    }

    fn comparison(&self, left: &Expr, comparison: Comparison, right: &Expr, span: &Span) -> Result<Predicate, Problem> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let mismatch = |left: &Operand, right: &Operand| {
            let what = format!("{} can't be compared with {}", left.describe(), right.describe());
            Problem::new(span.clone(), what).remedy(remedy_for(left, right))
        };
        let (left, right) = match (left, right) {
            (Operand::Scalar(left), Operand::Scalar(right)) => (left, right),
            (Operand::Scalar(value), Operand::List(list)) | (Operand::List(list), Operand::Scalar(value)) => {
                return match (&value.scalar, comparison.is_ordering()) {
                    (Scalar::Json(path), false) => Ok(Predicate::EqualsArray {
                        path: path.clone(),
                        value: list.into_iter().map(Constant::into_json).collect(),
                        negated: comparison == Comparison::NotEqual,
                    }),
                    _ => Err(mismatch(&Operand::Scalar(value), &Operand::List(list))),
                };
            }
            (left, right) => return Err(mismatch(&left, &right)),
        };
        let fits = match (left.kind, right.kind) {
            (Type::Bool, Type::Bool) => !comparison.is_ordering(),
            (Type::Json, _) | (_, Type::Json) => true,
            (left, right) => left == right || (left.is_number() && right.is_number()),
        };
        if !fits {
            return Err(mismatch(&Operand::Scalar(left), &Operand::Scalar(right)));
        }
        Ok(match left.is_constant() {
            true => compare(right.scalar, comparison.mirrored(), left),
            false => compare(left.scalar, comparison, right),
        })
    }

    fn membership(&self, value: &Expr, list: &Expr) -> Result<Predicate, Problem> {
        let value = self.scalar(value)?;
        let items = match self.operand(list)? {
            Operand::List(items) => items,
            Operand::Scalar(Typed { kind: Type::Json, .. }) => {
                return Err(Problem::new(list.span.clone(), "`in` needs a list of constants")
                    .remedy("whether a JSON array holds a value is asked by json_contains(array, value)"));
            }
            _ => {
                return Err(Problem::new(list.span.clone(), "`in` needs a list of constants")
                    .remedy("write it as [1, 2] or as a {template} whose value is a list"));
            }
        };
        let element_spans = match &list.kind {
            ExprKind::List(parts) => Some(parts),
            _ => None,
        };
        for (position, item) in items.iter().enumerate() {
            let fits = match (value.kind, item) {
                (_, Constant::List(_)) => false,
                (Type::Json, _) => true,
                (Type::Bool, item) => matches!(item, Constant::Bool(_)),
                (Type::Text, item) => matches!(item, Constant::Text(_)),
                (Type::Int | Type::Float, item) => matches!(item, Constant::Number(_)),
            };
            if !fits {
                let span = element_spans.and_then(|parts| parts.get(position)).map_or(&list.span, |part| &part.span);
                let what = format!("{} can't be in a list with {}", value.describe(), item.describe());
                return Err(Problem::new(span.clone(), what));
            }
        }
        Ok(contained(value, items))
    }

    fn like(&self, value: &Expr, pattern: &Expr) -> Result<Predicate, Problem> {
        let (value, pattern_at) = (self.scalar(value)?, pattern.span.clone());
        let Scalar::Text(pattern) = self.scalar(pattern)?.scalar else {
            return Err(Problem::new(pattern_at, "`like` needs a string as its pattern")
                .remedy("for example name like \"ab%\", where % stands for any text and _ for one character"));
        };
        let pattern = Pattern::new(&pattern);
        match (value.kind, value.scalar) {
            (Type::Text, Scalar::Field(field)) => Ok(Predicate::Like { field, pattern }),
            (Type::Text | Type::Json, scalar) => Ok(Predicate::ScalarLike { value: scalar, pattern }),
            (kind, scalar) => {
                let value = Typed { scalar, kind, ..value };
                Err(Problem::new(
                    value.span.clone(),
                    format!("`like` works on strings, and {} is none", value.describe()),
                ))
            }
        }
    }

    fn null_test(&self, value: &Expr, negated: bool) -> Result<Predicate, Problem> {
        let (name, steps) = match &value.kind {
            ExprKind::Name(name) => (name, &[][..]),
            ExprKind::Path { name, steps } => (name, &steps[..]),
            _ => {
                return Err(Problem::new(
                    value.span.clone(),
                    "`is null` works on a field or a JSON path, not on an expression",
                ));
            }
        };
        let is_null = match self.place(name, steps, &value.span)? {
            Place::Field(field) => Predicate::IsNull { field: field.id },
            Place::Json(path) if path.steps.is_empty() => Predicate::IsNull { field: path.field },
            Place::Json(path) => negate(Predicate::Exists(path)),
        };
        Ok(if negated { negate(is_null) } else { is_null })
    }

    fn exists(&self, operand: &Expr) -> Result<Predicate, Problem> {
        match self.scalar(operand)? {
            Typed { scalar: Scalar::Json(path), .. } => Ok(Predicate::Exists(path)),
            other => Err(Problem::new(
                other.span.clone(),
                format!("`exists` works on JSON paths, not on {}", other.describe()),
            )
            .remedy("use `is not null` for fields")),
        }
    }

    fn call(&self, name: &str, arguments: &[Expr], span: &Span) -> Result<Predicate, Problem> {
        let lower = name.to_ascii_lowercase();
        let (all, many) = match lower.as_str() {
            "json_contains" => (true, false),
            "json_contains_all" => (true, true),
            "json_contains_any" => (false, true),
            _ if UNSUPPORTED.iter().any(|prefix| lower.starts_with(prefix)) => {
                return Err(Problem::unsupported(span.clone(), &format!("the function {lower}")));
            }
            _ => {
                return Err(Problem::new(span.clone(), format!("unknown function \"{name:.40}\""))
                    .remedy("functions are json_contains, json_contains_all and json_contains_any"));
            }
        };
        let [target, wanted] = arguments else {
            let what = format!("{lower} takes two arguments and has {}", arguments.len());
            return Err(Problem::new(span.clone(), what)
                .remedy(format!("for example {lower}(meta[\"tags\"], {})", if many { "[1, 2]" } else { "1" })));
        };
        let path = match self.scalar(target)? {
            Typed { scalar: Scalar::Json(path), .. } => path,
            other => {
                return Err(Problem::new(
                    other.span.clone(),
                    format!("{lower} works on JSON, not on {}", other.describe()),
                ));
            }
        };
        let values = match (self.operand(wanted)?, many) {
            (Operand::List(items), true) => items.into_iter().map(Constant::into_json).collect(),
            (Operand::List(items), false) => vec![Constant::List(items).into_json()],
            (Operand::Scalar(value), false) if value.is_constant() => vec![Constant::from(value.scalar).into_json()],
            (_, true) => return Err(Problem::new(wanted.span.clone(), format!("{lower} needs a list of constants"))),
            (_, false) => return Err(Problem::new(wanted.span.clone(), format!("{lower} needs a constant"))),
        };
        Ok(Predicate::Contains { path, values, all })
    }

    fn scalar(&self, expr: &Expr) -> Result<Typed, Problem> {
        match self.operand(expr)? {
            Operand::Scalar(typed) => Ok(typed),
            Operand::List(_) => Err(Problem::new(expr.span.clone(), "a list where a single value belongs")),
        }
    }

    fn operand(&self, expr: &Expr) -> Result<Operand, Problem> {
        let span = expr.span.clone();
        let typed = |scalar, kind| Ok(Operand::Scalar(Typed { scalar, kind, name: None, span: span.clone() }));
        match &expr.kind {
            ExprKind::Literal(literal) => Ok(Constant::from(literal.clone()).into_operand(span)),
            ExprKind::List(items) => {
                let constant = |item: &Expr| match self.operand(item)? {
                    Operand::Scalar(typed) if typed.is_constant() => Ok(Constant::from(typed.scalar)),
                    Operand::List(items) => Ok(Constant::List(items)),
                    other => {
                        let what = format!("{} can't be an element of a list", other.describe());
                        Err(Problem::new(item.span.clone(), what).remedy("lists hold constants only"))
                    }
                };
                Ok(Operand::List(items.iter().map(constant).collect::<Result<_, _>>()?))
            }
            ExprKind::Name(name) => self.field_value(name, &[], span),
            ExprKind::Path { name, steps } => self.field_value(name, steps, span),
            ExprKind::Template(name) => {
                match self.templates.get(name) {
                    Some(value) => constant_of_template(value)
                        .map(|constant| constant.into_operand(span.clone()))
                        .map_err(|reason| Problem::new(span, format!("parameter {{{name}}} {reason}"))),
                    None => Err(Problem::new(span, format!("parameter {{{name}}} has no value"))
                        .remedy("pass it in filter_params")),
                }
            }
            ExprKind::Unary(operator, operand) => {
                let operand = self.scalar(operand)?;
                let fits = operand.kind != Type::Bool && operand.kind != Type::Text;
                if !fits || (*operator == Unary::BitNot && operand.kind == Type::Float) {
                    let what = format!("this operator works on numbers, not on {}", operand.describe());
                    return Err(Problem::new(span, what));
                }
                // A JSON value that is computed with counts as a number from here on.
                let kind = if operand.kind == Type::Float { Type::Float } else { Type::Int };
                match (operator, operand.scalar) {
                    (Unary::Plus, scalar) => typed(scalar, operand.kind),
                    (Unary::Minus, Scalar::Number(number)) => match number.negated() {
                        Some(number) => typed(Scalar::Number(number), kind),
                        None => Err(no_result(span)),
                    },
                    (Unary::BitNot, Scalar::Number(Number::Int(value))) => {
                        typed(Scalar::Number(Number::Int(!value)), kind)
                    }
                    (Unary::Minus, scalar) => typed(Scalar::Negate(Box::new(scalar)), kind),
                    (Unary::BitNot, scalar) => typed(Scalar::BitNot(Box::new(scalar)), kind),
                }
            }
            ExprKind::Arithmetic(operator, left, right) => self.arithmetic(*operator, left, right, span),
            ExprKind::Call { name, arguments } => {
                self.call(name, arguments, &span)?;
                Err(not_a_value(span))
            }
            _ => {
                // A condition that is wrong in itself is the better error to report.
                self.condition(expr)?;
                Err(not_a_value(span))
            }
        }
    }

    fn arithmetic(&self, operator: Arithmetic, left: &Expr, right: &Expr, span: Span) -> Result<Operand, Problem> {
        let (left, right) = (self.scalar(left)?, self.scalar(right)?);
        for side in [&left, &right] {
            let fits = match side.kind {
                Type::Bool | Type::Text => false,
                Type::Float => !operator.is_bitwise(),
                Type::Int | Type::Json => true,
            };
            if !fits {
                let needs = if operator.is_bitwise() { "integers" } else { "numbers" };
                let what = format!("`{}` works on {needs}, not on {}", operator.symbol(), side.describe());
                return Err(Problem::new(side.span.clone(), what));
            }
        }
        let whole_power = matches!(right.scalar, Scalar::Number(Number::Int(exponent)) if exponent >= 0);
        let kind = match (left.kind, right.kind) {
            (Type::Float, _) | (_, Type::Float) => Type::Float,
            _ if operator == Arithmetic::Power && !whole_power => Type::Float,
            _ => Type::Int,
        };
        let by_zero = matches!(operator, Arithmetic::Divide | Arithmetic::Remainder)
            && matches!(right.scalar, Scalar::Number(divisor) if divisor.as_float() == 0.0);
        let scalar = match (left.scalar, right.scalar) {
            _ if by_zero => return Err(Problem::new(span, "division by zero")),
            (Scalar::Number(left), Scalar::Number(right)) => match operator.apply(left, right) {
                Some(number) => Scalar::Number(number),
                None => return Err(no_result(span)),
            },
            (left, right) => Scalar::Arithmetic(operator, Box::new(left), Box::new(right)),
        };
        Ok(Operand::Scalar(Typed { scalar, kind, name: None, span }))
    }

    fn field_value(&self, name: &str, steps: &[Step], span: Span) -> Result<Operand, Problem> {
        let typed = |scalar, kind| Typed { scalar, kind, name: Some(name.to_owned()), span: span.clone() };
        let field = match self.place(name, steps, &span)? {
            Place::Json(path) => return Ok(Operand::Scalar(typed(Scalar::Json(path), Type::Json))),
            Place::Field(field) => field,
        };
        let kind = match field.data_type {
            DataType::Bool => Type::Bool,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Type::Int,
            DataType::Float | DataType::Double => Type::Float,
            DataType::VarChar => Type::Text,
            other => {
                let what = format!("field \"{name}\" of type {} can't be used here", other.as_str_name());
                return Err(Problem::new(span, what).remedy("filters work on scalar fields"));
            }
        };
        Ok(Operand::Scalar(typed(Scalar::Field(field.id), kind)))
    }

    /// Looks a name up: fields first, then the dynamic field's keys.
    fn place(&self, name: &str, steps: &[Step], span: &Span) -> Result<Place<'a>, Problem> {
        if let Some(field) = self.collection.field(name) {
            return match field.data_type {
                DataType::Json => {
                    Ok(Place::Json(JsonPath { field: field.id, dynamic: field.dynamic, steps: steps.to_vec() }))
                }
                _ if steps.is_empty() => Ok(Place::Field(field)),
                other => {
                    let what = format!("field \"{name}\" is of type {} and has no keys", other.as_str_name());
                    Err(Problem::new(span.clone(), what).remedy("only JSON fields are followed by [\"key\"]"))
                }
            };
        }
        if let Some(dynamic) = self.collection.dynamic_field().filter(|_| !name.starts_with('$')) {
            let first = Step { key: name.to_owned(), index: None };
            let steps = std::iter::once(first).chain(steps.iter().cloned()).collect();
            return Ok(Place::Json(JsonPath { field: dynamic.id, dynamic: true, steps }));
        }
        let fields = self.collection.fields.iter().filter(|field| !field.dynamic).map(|field| field.name.as_str());
        let mut listed: Vec<_> = fields.take(LISTED_FIELDS + 1).collect();
        if listed.len() > LISTED_FIELDS {
            listed[LISTED_FIELDS] = "…";
        }
        Err(Problem::new(span.clone(), format!("unknown field \"{name:.60}\"")).remedy(format!(
            "collection \"{}\" has the fields {}",
            self.collection.name,
            listed.join(", ")
        )))
    }
}

/// The fastest predicate for `left comparison right`, where `right` may be a constant and `left` is one only if both are.
fn compare(left: Scalar, comparison: Comparison, right: Typed) -> Predicate {
    match (left, right.scalar) {
        (Scalar::Number(left), Scalar::Number(right)) => Predicate::Always(comparison.holds(left.order(right))),
        (Scalar::Text(left), Scalar::Text(right)) => Predicate::Always(comparison.holds(Some(left.cmp(&right)))),
        (Scalar::Bool(left), Scalar::Bool(right)) => Predicate::Always(comparison.holds(Some(left.cmp(&right)))),
        (Scalar::Field(field), Scalar::Bool(value)) => {
            let is_true = Predicate::IsTrue { field };
            if value == (comparison == Comparison::Equal) { is_true } else { negate(is_true) }
        }
        (Scalar::Field(field), Scalar::Text(value)) => Predicate::Text { field, comparison, value },
        (Scalar::Field(field), Scalar::Number(value)) => Predicate::Number { field, comparison, value },
        (left, right) => Predicate::Compare { left, comparison, right },
    }
}

fn contained(value: Typed, items: Vec<Constant>) -> Predicate {
    match (value.kind, value.scalar) {
        (Type::Text, Scalar::Field(field)) => {
            let text = |item| match item {
                Constant::Text(text) => Some(text),
                _ => None,
            };
            Predicate::TextIn { field, values: items.into_iter().filter_map(text).collect() }
        }
        // What no integer equals can be left out.
        (Type::Int, Scalar::Field(field)) => {
            let int = |item: Constant| match item.as_number()?.normalised() {
                Number::Int(value) => i64::try_from(value).ok(),
                Number::Float(_) => None,
            };
            Predicate::IntIn { field, values: items.into_iter().filter_map(int).collect() }
        }
        (Type::Float, Scalar::Field(field)) => {
            let values = || items.iter().filter_map(Constant::as_number).map(Number::as_float);
            // Adding zero makes a negative zero positive.
            let singles = values().map(|value| (value as f32 + 0.0).to_bits()).collect();
            Predicate::FloatIn { field, singles, doubles: values().map(|value| (value + 0.0).to_bits()).collect() }
        }
        (_, value) => {
            let mut values = ConstantSet::default();
            for item in items {
                match item {
                    Constant::Bool(value) => values.bools[usize::from(value)] = true,
                    Constant::Number(number) => values.insert_number(number),
                    Constant::Text(text) => drop(values.texts.insert(text)),
                    Constant::List(_) => {}
                }
            }
            Predicate::ScalarIn { value, values }
        }
    }
}

fn negate(predicate: Predicate) -> Predicate {
    match predicate {
        Predicate::Always(value) => Predicate::Always(!value),
        Predicate::Not(inner) => *inner,
        other => Predicate::Not(Box::new(other)),
    }
}

fn remedy_for(left: &Operand, right: &Operand) -> &'static str {
    match (left.kind(), right.kind()) {
        (Some(Type::Text), Some(kind)) | (Some(kind), Some(Type::Text)) if kind.is_number() => {
            "strings are compared with strings, such as \"5\", and numbers with numbers"
        }
        (Some(Type::Bool), Some(Type::Bool)) => "booleans have no order, only == and !=",
        (None, _) | (_, None) => {
            "use `in` for membership of a list; only JSON values are compared with lists, by == and !="
        }
        _ => "both sides must be of the same type",
    }
}

fn no_result(span: Span) -> Problem {
    Problem::new(span, "the calculation has no result")
        .remedy("it overflows, divides by zero or shifts by other than 0 to 63 bits")
}

fn not_a_value(span: Span) -> Problem {
    Problem::new(span, "a condition where a value belongs").remedy("conditions are joined with `and`, `or` and `not`")
}

impl From<Literal> for Constant {
    fn from(literal: Literal) -> Self {
        match literal {
            Literal::Bool(value) => Constant::Bool(value),
            Literal::Int(value) => Constant::Number(Number::Int(value)),
            Literal::Float(value) => Constant::Number(Number::Float(value)),
            Literal::Text(value) => Constant::Text(value),
        }
    }
}
