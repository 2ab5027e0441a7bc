//! Rows that clients send: Milvus' field data, checked against the schema, to the engine's columns.

use std::collections::HashSet;

use crate::column::{Column, Rows, Strings, Values, bits};
use crate::error::{Code, Error, Result};
use crate::proto::schema::field_data::Field as FieldContent;
use crate::proto::schema::scalar_field::Data as Scalars;
use crate::proto::schema::vector_field::Data as Vectors;
use crate::proto::schema::{DataType, FieldData};
use crate::schema::{Collection, Field};

/// The strings of a column are found by offsets of 32 bits.
const MAX_COLUMN_BYTES: usize = u32::MAX as usize;
const OFFSET_BYTES: usize = 4;
/// Decimal digits of the longest.
const AUTOMATIC_KEY_BYTES: usize = 19;

/// Whether a request may leave the automatic key to the engine or must name the keys of the rows to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Purpose {
    Insert,
    Upsert,
}

/// The rows of a request with `count` rows. `new_keys` gives out that many unused automatic keys, the first of them.
/// `reserve` takes memory for values that are not in the request.
pub fn rows(
    collection: &Collection,
    sent: Vec<FieldData>,
    count: usize,
    purpose: Purpose,
    new_keys: impl FnOnce(usize) -> i64,
    reserve: impl Fn(usize) -> Result<()>,
) -> Result<Rows> {
    if count == 0 {
        return Err(Error::invalid("num_rows should be greater than 0"));
    }
    let mut named = HashSet::new();
    for data in &sent {
        if !named.insert(data.field_name.clone()) {
            return Err(mismatch(format!("field {} is given twice", data.field_name)));
        }
        let known = collection.field(&data.field_name).is_some() || data.is_dynamic;
        if !known || (data.is_dynamic && collection.dynamic_field().is_none()) {
            return Err(mismatch(format!(
                "field {} is not in the schema of collection {}, and the collection has no dynamic field",
                data.field_name, collection.name
            )));
        }
    }
    let mut sent = sent;
    let mut columns = Vec::with_capacity(collection.fields.len());
    let mut new_keys = Some(new_keys);
    // Vectors first: every collection has some, and none can be left out. Once the request is known to hold so many,
    // something may be made for each of its rows.
    let numbered = collection.fields.iter().enumerate();
    let (vectors, others): (Vec<_>, Vec<_>) = numbered.partition(|(_, field)| field.dim > 0);
    for (number, field) in vectors.into_iter().chain(others) {
        let position = sent.iter().position(|data| match field.dynamic {
            true => data.is_dynamic || data.field_name == field.name,
            false => data.field_name == field.name && !data.is_dynamic,
        });
        let data = position.map(|position| sent.swap_remove(position));
        reserve(made_bytes(field, data.as_ref(), count))?;
        let automatic = field.auto_id && (purpose == Purpose::Insert || data.is_none());
        let column = match (data, automatic) {
            (Some(_), true) => {
                return Err(mismatch(format!("field {} is auto_id: its values are made by the engine", field.name)));
            }
            (None, true) => match new_keys.take() {
                Some(new_keys) => automatic_keys(field, count, new_keys(count)),
                None => return Err(mismatch("more than one automatic key")),
            },
            (Some(data), false) => column(field, data, count)?,
            (None, false) => absent(field, count)?,
        };
        columns.push((number, column));
    }
    columns.sort_unstable_by_key(|(number, _)| *number);
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(Rows { count, columns, timestamps: vec![0; count] })
}

/// Bytes of the values that are made for rows to which the request gives none.
fn made_bytes(field: &Field, data: Option<&FieldData>, count: usize) -> usize {
    let made = match data {
        Some(data) => data.valid_data.iter().filter(|valid| !**valid).count(),
        None => count,
    };
    let each = match field.data_type {
        // None is ever made.
        DataType::FloatVector => 0,
        DataType::VarChar | DataType::Json => OFFSET_BYTES + text_default(field).len().max(AUTOMATIC_KEY_BYTES),
        _ => size_of::<i64>(),
    };
    made.saturating_mul(each)
}

/// What a text field holds where a row gives no value.
fn text_default(field: &Field) -> &str {
    field.default_value.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default()
}

fn automatic_keys(field: &Field, count: usize, first: i64) -> Column {
    let keys = first..first + count as i64;
    let values = match field.data_type {
        DataType::VarChar => {
            let mut strings = Strings::default();
            keys.for_each(|key| strings.push(key.to_string().as_bytes()));
            Values::VarChar(strings)
        }
        _ => Values::Int64(keys.collect()),
    };
    Column { field_id: field.id, validity: None, values }
}

/// A column of a field that the request does not have.
fn absent(field: &Field, count: usize) -> Result<Column> {
    if field.dynamic {
        let values = Values::Json((0..count).map(|_| &b"{}"[..]).collect());
        return Ok(Column { field_id: field.id, validity: None, values });
    }
    if field.default_value.is_none() && !field.nullable {
        return Err(mismatch(format!(
            "field {} is missing: give it a value in every row, or declare it nullable or with a default value",
            field.name
        )));
    }
    expand(field, absent_values(field), &vec![false; count])
}

fn column(field: &Field, data: FieldData, count: usize) -> Result<Column> {
    let valid = data.valid_data;
    if !valid.is_empty() && valid.len() != count {
        return Err(mismatch(format!("field {}: {} validity flags for {count} rows", field.name, valid.len())));
    }
    // Values may be left out only if there is none at all.
    let none = !valid.is_empty() && !valid.contains(&true);
    let values = match (field.data_type, data.field) {
        (DataType::FloatVector, Some(FieldContent::Vectors(vectors))) => match vectors.data {
            Some(Vectors::FloatVector(array)) => float_vectors(field, vectors.dim, array.data)?,
            _ => return Err(wrong_type(field, "another kind of vector")),
        },
        (_, Some(FieldContent::Scalars(scalars))) => match scalars.data {
            Some(data) => scalar_values(field, data)?,
            None if none => return expand(field, absent_values(field), &valid),
            None => return Err(mismatch(format!("field {} has no values", field.name))),
        },
        (_, None) if none => return expand(field, absent_values(field), &valid),
        (_, None) => return Err(mismatch(format!("field {} has no values", field.name))),
        _ => return Err(wrong_type(field, "vectors")),
    };
    let given = len(&values);
    let nulls = valid.iter().filter(|valid| !**valid).count();
    if nulls > 0 && given == count - nulls {
        return expand(field, values, &valid);
    }
    if given != count {
        return Err(mismatch(format!(
            "the num_rows ({given}) of field {} is not equal to passed num_rows ({count})",
            field.name
        )));
    }
    if nulls == 0 {
        return Ok(Column { field_id: field.id, validity: None, values });
    }
    if field.default_value.is_some() || !field.nullable {
        // Values are there for every row; take only those that count, and fill the others in.
        let keep = bits(&valid);
        let dense = Column { field_id: field.id, validity: None, values };
        return expand(field, dense.filtered(&keep).values, &valid);
    }
    Ok(Column { field_id: field.id, validity: Some(bits(&valid)), values })
}

fn absent_values(field: &Field) -> Values {
    match field.data_type {
        DataType::Bool => Values::Bool(Vec::new()),
        DataType::Int8 => Values::Int8(Vec::new()),
        DataType::Int16 => Values::Int16(Vec::new()),
        DataType::Int32 => Values::Int32(Vec::new()),
        DataType::Float => Values::Float(Vec::new()),
        DataType::Double => Values::Double(Vec::new()),
        DataType::VarChar => Values::VarChar(Strings::default()),
        DataType::Json => Values::Json(Strings::default()),
        DataType::FloatVector => Values::FloatVector { dim: field.dim, values: Vec::new() },
        _ => Values::Int64(Vec::new()),
    }
}

/// Puts `values`, one for each set flag, at their rows; the other rows get the default value, or null.
fn expand(field: &Field, values: Values, valid: &[bool]) -> Result<Column> {
    if valid.contains(&false) && field.default_value.is_none() && !field.nullable {
        return Err(mismatch(format!(
            "field {} has a row without a value, and is neither nullable nor has a default",
            field.name
        )));
    }
    let default = field.default_value.as_ref();
    fn spread<T: Clone>(values: &[T], valid: &[bool], fill: T) -> Vec<T> {
        let mut given = values.iter();
        valid
            .iter()
            .map(|valid| if *valid { given.next().cloned() } else { None }.unwrap_or_else(|| fill.clone()))
            .collect()
    }
    let integer = default.and_then(serde_json::Value::as_i64).unwrap_or_default();
    let float = default.and_then(serde_json::Value::as_f64).unwrap_or_default();
    let spread_strings = |strings: &Strings, fill: &[u8]| {
        let made = valid.iter().filter(|valid| !**valid).count().saturating_mul(fill.len());
        if made.saturating_add(strings.byte_len()) > MAX_COLUMN_BYTES {
            return Err(mismatch(format!(
                "field {}: the default values of so many rows are too large; send fewer rows at a time",
                field.name
            )));
        }
        let mut given = 0..strings.len();
        let mut all = Strings::default();
        for valid in valid {
            let value = if *valid { given.next() } else { None };
            all.push(value.map_or(fill, |row| strings.get(row)));
        }
        Ok(all)
    };
    let values = match &values {
        Values::Bool(values) => {
            Values::Bool(spread(values, valid, default.and_then(serde_json::Value::as_bool).unwrap_or_default()))
        }
        Values::Int8(values) => Values::Int8(spread(values, valid, integer as i8)),
        Values::Int16(values) => Values::Int16(spread(values, valid, integer as i16)),
        Values::Int32(values) => Values::Int32(spread(values, valid, integer as i32)),
        Values::Int64(values) => Values::Int64(spread(values, valid, integer)),
        Values::Float(values) => Values::Float(spread(values, valid, float as f32)),
        Values::Double(values) => Values::Double(spread(values, valid, float)),
        Values::VarChar(strings) => Values::VarChar(spread_strings(strings, text_default(field).as_bytes())?),
        Values::Json(strings) => Values::Json(spread_strings(strings, b"null")?),
        Values::FloatVector { .. } => {
            return Err(mismatch(format!("vector field {} has a row without a value", field.name)));
        }
    };
    let null = default.is_none() && valid.contains(&false);
    Ok(Column { field_id: field.id, validity: null.then(|| bits(valid)), values })
}

fn scalar_values(field: &Field, data: Scalars) -> Result<Values> {
    fn narrow<T: TryFrom<i32>>(field: &Field, values: Vec<i32>) -> Result<Vec<T>> {
        let convert = |value: i32| {
            T::try_from(value).map_err(|_| {
                mismatch(format!("field {}: {value} does not fit into {}", field.name, field.data_type.as_str_name()))
            })
        };
        values.into_iter().map(convert).collect()
    }
    Ok(match (field.data_type, data) {
        (DataType::Bool, Scalars::BoolData(array)) => Values::Bool(array.data),
        (DataType::Int8, Scalars::IntData(array)) => Values::Int8(narrow(field, array.data)?),
        (DataType::Int16, Scalars::IntData(array)) => Values::Int16(narrow(field, array.data)?),
        (DataType::Int32, Scalars::IntData(array)) => Values::Int32(array.data),
        (DataType::Int64, Scalars::LongData(array)) => Values::Int64(array.data),
        (DataType::Float, Scalars::FloatData(array)) => {
            finite(field, array.data.iter().map(|value| f64::from(*value)))?;
            Values::Float(array.data)
        }
        (DataType::Double, Scalars::DoubleData(array)) => {
            finite(field, array.data.iter().copied())?;
            Values::Double(array.data)
        }
        (DataType::VarChar, Scalars::StringData(array)) => {
            if let Some((row, value)) = array.data.iter().enumerate().find(|(_, value)| value.len() > field.max_length)
            {
                return Err(mismatch(format!(
                    "length of varchar field {} exceeds max length, row number: {row}, length: {}, max length: {}",
                    field.name,
                    value.len(),
                    field.max_length
                )));
            }
            Values::VarChar(array.data.iter().map(|value| value.as_bytes()).collect())
        }
        (DataType::Json, Scalars::JsonData(array)) => {
            for (row, text) in array.data.iter().enumerate() {
                let value: serde_json::Value = serde_json::from_slice(text)
                    .map_err(|error| mismatch(format!("field {}, row {row}: not valid JSON: {error}", field.name)))?;
                if field.dynamic && !value.is_object() {
                    return Err(mismatch(format!("dynamic field, row {row}: a JSON object is expected")));
                }
            }
            Values::Json(array.data.iter().map(Vec::as_slice).collect())
        }
        _ => return Err(wrong_type(field, "values of another type")),
    })
}

fn float_vectors(field: &Field, dim: i64, values: Vec<f32>) -> Result<Values> {
    if dim != field.dim as i64 || !values.len().is_multiple_of(field.dim) {
        return Err(mismatch(format!(
            "the dim ({dim}) of field data({}) is not equal to schema dim ({})",
            field.name, field.dim
        )));
    }
    finite(field, values.iter().map(|value| f64::from(*value)))?;
    Ok(Values::FloatVector { dim: field.dim, values })
}

fn finite(field: &Field, mut values: impl Iterator<Item = f64>) -> Result<()> {
    match values.find(|value| !value.is_finite()) {
        Some(value) => Err(mismatch(format!("field {}: value '{value}' is not a number or infinity", field.name))),
        None => Ok(()),
    }
}

fn len(values: &Values) -> usize {
    match values {
        Values::Bool(values) => values.len(),
        Values::Int8(values) => values.len(),
        Values::Int16(values) => values.len(),
        Values::Int32(values) => values.len(),
        Values::Int64(values) => values.len(),
        Values::Float(values) => values.len(),
        Values::Double(values) => values.len(),
        Values::VarChar(values) | Values::Json(values) => values.len(),
        Values::FloatVector { dim, values } => values.len() / dim,
    }
}

fn wrong_type(field: &Field, got: &str) -> Error {
    mismatch(format!("field {} is of type {}, but the request has {got}", field.name, field.data_type.as_str_name()))
}

fn mismatch(what: impl Into<String>) -> Error {
    Error::new(Code::InvalidParameter, what)
}
