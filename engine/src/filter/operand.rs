//! Operands of comparisons and calculations while the plan is made: typed scalars and lists of constants.

use serde_json::Value;

use super::error::Span;
use super::number::Number;
use super::plan::Scalar;
use crate::proto::schema::{TemplateArrayValue, TemplateValue, template_array_value, template_value};

/// The types that the language tells apart. All integer widths are one type, float and double another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Float,
    Text,
    /// Known only per row.
    Json,
}

impl Type {
    pub(super) fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Float)
    }

    fn noun(self) -> &'static str {
        match self {
            Type::Bool => "boolean",
            Type::Int => "integer",
            Type::Float => "floating-point number",
            Type::Text => "string",
            Type::Json => "JSON value",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) scalar: Scalar,
    pub(super) kind: Type,
    /// The field, where it is one.
    pub(super) name: Option<String>,
    pub(super) span: Span,
}

impl Typed {
    pub(super) fn is_constant(&self) -> bool {
        matches!(self.scalar, Scalar::Bool(_) | Scalar::Number(_) | Scalar::Text(_))
    }

    pub(super) fn describe(&self) -> String {
        match (&self.name, self.is_constant()) {
            (Some(name), _) => format!("field \"{name}\" ({})", self.kind.noun()),
            (None, true) => format!("the constant {}", self.kind.noun()),
            (None, false) => format!("a computed {}", self.kind.noun()),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Operand {
    Scalar(Typed),
    List(Vec<Constant>),
}

impl Operand {
    pub(super) fn describe(&self) -> String {
        match self {
            Operand::Scalar(typed) => typed.describe(),
            Operand::List(_) => "a list".to_owned(),
        }
    }

    /// None for lists.
    pub(super) fn kind(&self) -> Option<Type> {
        match self {
            Operand::Scalar(typed) => Some(typed.kind),
            Operand::List(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Constant>),
}

impl Constant {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Constant::Bool(_) => "a boolean",
            Constant::Number(Number::Int(_)) => "an integer",
            Constant::Number(Number::Float(_)) => "a floating-point number",
            Constant::Text(_) => "a string",
            Constant::List(_) => "another list",
        }
    }

    pub(super) fn as_number(&self) -> Option<Number> {
        match self {
            Constant::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn into_operand(self, span: Span) -> Operand {
        let (scalar, kind) = match self {
            Constant::Bool(value) => (Scalar::Bool(value), Type::Bool),
            Constant::Number(number @ Number::Int(_)) => (Scalar::Number(number), Type::Int),
            Constant::Number(number) => (Scalar::Number(number), Type::Float),
            Constant::Text(text) => (Scalar::Text(text), Type::Text),
            Constant::List(items) => return Operand::List(items),
        };
        Operand::Scalar(Typed { scalar, kind, name: None, span })
    }

    /// The constant as JSON. An integer beyond 64 bits becomes a double, as in JSON texts.
    pub(super) fn into_json(self) -> Value {
        match self {
            Constant::Bool(value) => Value::from(value),
            Constant::Number(Number::Int(value)) => match (i64::try_from(value), u64::try_from(value)) {
                (Ok(value), _) => Value::from(value),
                (_, Ok(value)) => Value::from(value),
                _ => Value::from(value as f64),
            },
            Constant::Number(Number::Float(value)) => Value::from(value),
            Constant::Text(text) => Value::from(text),
            Constant::List(items) => items.into_iter().map(Constant::into_json).collect(),
        }
    }
}

/// For scalars that are constants; others have no such form and become an empty list, which compares with nothing.
impl From<Scalar> for Constant {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool(value) => Constant::Bool(value),
            Scalar::Number(number) => Constant::Number(number),
            Scalar::Text(text) => Constant::Text(text),
            _ => Constant::List(Vec::new()),
        }
    }
}

/// The constant that a request passes for a `{parameter}`; refused with the reason where there is none.
pub(super) fn constant_of_template(value: &TemplateValue) -> Result<Constant, String> {
    use template_value::Val;
    match &value.val {
        Some(Val::BoolVal(value)) => Ok(Constant::Bool(*value)),
        Some(Val::Int64Val(value)) => Ok(Constant::Number(Number::Int((*value).into()))),
        Some(Val::FloatVal(value)) => float(*value),
        Some(Val::StringVal(value)) => Ok(Constant::Text(value.clone())),
        Some(Val::ArrayVal(array)) => constant_of_array(array, MAX_LEVELS),
        None => Err("has a value of a type that is not supported".to_owned()),
    }
}

/// Deepest nesting of lists in a parameter.
const MAX_LEVELS: usize = 16;

fn float(value: f64) -> Result<Constant, String> {
    match value.is_nan() {
        true => Err("is NaN, which compares with nothing".to_owned()),
        false => Ok(Constant::Number(Number::Float(value))),
    }
}

fn constant_of_array(array: &TemplateArrayValue, levels: usize) -> Result<Constant, String> {
    use template_array_value::Data;
    if levels == 0 {
        return Err(format!("is nested more than {MAX_LEVELS} levels deep"));
    }
    Ok(Constant::List(match &array.data {
        None => Vec::new(),
        Some(Data::BoolData(values)) => values.data.iter().map(|value| Constant::Bool(*value)).collect(),
        Some(Data::LongData(values)) => {
            values.data.iter().map(|value| Constant::Number(Number::Int((*value).into()))).collect()
        }
        Some(Data::DoubleData(values)) => values.data.iter().map(|value| float(*value)).collect::<Result<_, _>>()?,
        Some(Data::StringData(values)) => values.data.iter().map(|value| Constant::Text(value.clone())).collect(),
        Some(Data::ArrayData(arrays)) => {
            arrays.data.iter().map(|array| constant_of_array(array, levels - 1)).collect::<Result<_, _>>()?
        }
        Some(Data::JsonData(values)) => values
            .data
            .iter()
            .map(|text| match serde_json::from_slice(text) {
                Ok(value) => constant_of_json(value),
                Err(_) => Err("holds an element that is not JSON".to_owned()),
            })
            .collect::<Result<_, _>>()?,
    }))
}

fn constant_of_json(value: Value) -> Result<Constant, String> {
    match value {
        Value::Bool(value) => Ok(Constant::Bool(value)),
        Value::Number(number) => {
            Number::from_json(&number).map(Constant::Number).ok_or_else(|| "holds a number out of range".to_owned())
        }
        Value::String(text) => Ok(Constant::Text(text)),
        Value::Array(items) => Ok(Constant::List(items.into_iter().map(constant_of_json).collect::<Result<_, _>>()?)),
        Value::Null | Value::Object(_) => Err("holds null or an object, which filters can't compare".to_owned()),
    }
}
