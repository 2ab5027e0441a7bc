//! Fields of results in Milvus' column form.

use std::collections::BTreeSet;

use crate::column::{Column, Values};
use crate::error::{Code, Error, Result};
use crate::proto::schema::field_data::Field as FieldContent;
use crate::proto::schema::i_ds::IdField;
use crate::proto::schema::scalar_field::Data as Scalars;
use crate::proto::schema::vector_field::Data as Vectors;
use crate::proto::schema::{
    BoolArray, DataType, DoubleArray, FieldData, FloatArray, IDs, IntArray, JsonArray, LongArray, ScalarField,
    StringArray, VectorField,
};
use crate::schema::{Collection, DYNAMIC_FIELD, Field};
use crate::storage::part::Part;

/// A row of a view: the number of its part and its ordinal there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Row {
    pub part: usize,
    pub row: usize,
}

/// A primary key where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum KeyRef<'a> {
    Missing,
    Int(i64),
    Text(&'a [u8]),
}

impl<'a> KeyRef<'a> {
    /// The primary key of `row` of `part`.
    pub fn of(part: &'a Part, primary_key: i64, row: usize) -> Self {
        match part.rows.column(primary_key).map(|column| &column.values) {
            Some(Values::Int64(keys)) => Self::Int(keys[row]),
            Some(Values::VarChar(keys)) => Self::Text(keys.get(row)),
            _ => Self::Missing,
        }
    }
}

/// Primary keys in Milvus' form.
pub fn ids<'a>(keys: impl Iterator<Item = KeyRef<'a>>, text: bool) -> IDs {
    let id_field = match text {
        true => IdField::StrId(StringArray {
            data: keys
                .map(|key| match key {
                    KeyRef::Text(key) => String::from_utf8_lossy(key).into_owned(),
                    _ => String::new(),
                })
                .collect(),
        }),
        false => IdField::IntId(LongArray {
            data: keys.map(|key| if let KeyRef::Int(key) = key { key } else { 0 }).collect(),
        }),
    };
    IDs { id_field: Some(id_field) }
}

/// Which fields a request wants.
#[derive(Debug)]
pub struct Selection<'a> {
    fields: Vec<&'a Field>,
    /// Keys of dynamic values that were asked for by name; empty = all of them.
    dynamic_keys: BTreeSet<String>,
    /// The names as the answer repeats them.
    pub names: Vec<String>,
}

impl<'a> Selection<'a> {
    /// Resolves `names`: fields, `*` for all, or keys of dynamic values.
    pub fn new(collection: &'a Collection, names: &[String]) -> Result<Self> {
        let mut selection = Self { fields: Vec::new(), dynamic_keys: BTreeSet::new(), names: Vec::new() };
        let mut all_dynamic = false;
        for name in names {
            let name = name.trim();
            if name == "*" {
                collection.fields.iter().for_each(|field| selection.add(field));
                all_dynamic = true;
            } else if let Some(field) = collection.field(name) {
                selection.add(field);
                all_dynamic |= field.dynamic;
            } else if let Some(dynamic) = collection.dynamic_field() {
                let key = name.strip_prefix(DYNAMIC_FIELD).map(|path| path.trim_matches(['[', ']', '"', '\'']));
                selection.dynamic_keys.insert(key.unwrap_or(name).to_owned());
                if !selection.fields.iter().any(|field| field.dynamic) {
                    selection.fields.push(dynamic);
                }
                selection.names.push(name.to_owned());
            } else {
                return Err(Error::new(
                    Code::FieldNotFound,
                    format!(
                        "field {name} not exist: collection {} has the fields {}",
                        collection.name,
                        collection.fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ")
                    ),
                ));
            }
        }
        if all_dynamic {
            selection.dynamic_keys.clear();
        }
        Ok(selection)
    }

    /// Adds a field if it isn't there yet.
    pub fn add(&mut self, field: &'a Field) {
        if !self.fields.iter().any(|present| present.id == field.id) {
            self.fields.push(field);
            self.names.push(field.name.clone());
        }
    }

    /// Memory that the selected fields of `rows` take, or their message if that is more.
    pub fn bytes(&self, parts: &[&Part], rows: &[Row]) -> usize {
        self.fields.iter().map(|field| field_bytes(field, parts, rows)).sum()
    }

    /// The selected fields of `rows`.
    pub fn fetch(&self, parts: &[&Part], rows: &[Row]) -> Vec<FieldData> {
        self.fields.iter().map(|field| self.fetch_field(field, parts, rows)).collect()
    }

    fn fetch_field(&self, field: &Field, parts: &[&Part], rows: &[Row]) -> FieldData {
        let columns: Vec<Option<&Column>> = parts.iter().map(|part| part.rows.column(field.id)).collect();
        let cell = |row: &Row| columns[row.part].map(|column| (column, row.row));
        let mut data = FieldData {
            r#type: field.data_type as i32,
            field_name: field.name.clone(),
            field_id: field.id,
            is_dynamic: field.dynamic,
            ..Default::default()
        };
        if field.nullable {
            data.valid_data =
                rows.iter().map(|row| cell(row).is_some_and(|(column, row)| column.is_valid(row))).collect();
        }
        macro_rules! gather {
            ($variant:ident, $array:ident, $scalar:ident, $value:expr) => {{
                let values = rows.iter().map(|row| match cell(row).map(|(column, row)| (&column.values, row)) {
                    Some((Values::$variant(values), row)) => $value(values, row),
                    _ => Default::default(),
                });
                scalars(Scalars::$scalar($array { data: values.collect() }))
            }};
        }
        data.field = Some(match field.data_type {
            DataType::Bool => gather!(Bool, BoolArray, BoolData, |values: &Vec<bool>, row: usize| values[row]),
            DataType::Int8 => gather!(Int8, IntArray, IntData, |values: &Vec<i8>, row: usize| i32::from(values[row])),
            DataType::Int16 => {
                gather!(Int16, IntArray, IntData, |values: &Vec<i16>, row: usize| i32::from(values[row]))
            }
            DataType::Int32 => gather!(Int32, IntArray, IntData, |values: &Vec<i32>, row: usize| values[row]),
            DataType::Float => gather!(Float, FloatArray, FloatData, |values: &Vec<f32>, row: usize| values[row]),
            DataType::Double => gather!(Double, DoubleArray, DoubleData, |values: &Vec<f64>, row: usize| values[row]),
            DataType::VarChar => {
                gather!(VarChar, StringArray, StringData, |values: &crate::column::Strings, row: usize| values
                    .text(row)
                    .to_owned())
            }
            DataType::Json => {
                gather!(Json, JsonArray, JsonData, |values: &crate::column::Strings, row: usize| self
                    .json(field, values.get(row)))
            }
            DataType::FloatVector => vectors(field.dim, rows.iter().map(cell)),
            _ => gather!(Int64, LongArray, LongData, |values: &Vec<i64>, row: usize| values[row]),
        });
        data
    }

    /// The text of a JSON value; of the dynamic field only the keys that were asked for.
    fn json(&self, field: &Field, text: &[u8]) -> Vec<u8> {
        if !field.dynamic || self.dynamic_keys.is_empty() {
            return text.to_vec();
        }
        match serde_json::from_slice(text) {
            Ok(serde_json::Value::Object(mut values)) => {
                values.retain(|key, _| self.dynamic_keys.contains(key));
                serde_json::Value::Object(values).to_string().into_bytes()
            }
            _ => text.to_vec(),
        }
    }
}

/// Memory that a field of `rows` takes, or its message if that is more.
pub fn field_bytes(field: &Field, parts: &[&Part], rows: &[Row]) -> usize {
    let each = match field.data_type {
        DataType::Bool => 1,
        DataType::Float => 4,
        DataType::Double => 8,
        DataType::FloatVector => 4 * field.dim,
        DataType::VarChar | DataType::Json => size_of::<String>(),
        // A negative number in a message.
        _ => 10,
    };
    let columns: Vec<Option<&Column>> = parts.iter().map(|part| part.rows.column(field.id)).collect();
    let text = |row: &Row| match columns[row.part].map(|column| &column.values) {
        Some(Values::VarChar(values) | Values::Json(values)) => values.get(row.row).len(),
        _ => 0,
    };
    rows.len() * (each + usize::from(field.nullable)) + rows.iter().map(text).sum::<usize>()
}

fn scalars(data: Scalars) -> FieldContent {
    FieldContent::Scalars(ScalarField { data: Some(data) })
}

fn vectors<'a>(dim: usize, cells: impl Iterator<Item = Option<(&'a Column, usize)>>) -> FieldContent {
    let mut data = Vec::new();
    for cell in cells {
        match cell.map(|(column, row)| (&column.values, row)) {
            Some((Values::FloatVector { values, .. }, row)) => {
                data.extend_from_slice(&values[row * dim..(row + 1) * dim])
            }
            _ => data.resize(data.len() + dim, 0.0),
        }
    }
    FieldContent::Vectors(VectorField { dim: dim as i64, data: Some(Vectors::FloatVector(FloatArray { data })) })
}

/// The answer to `count(*)`.
pub fn count_field(count: usize) -> FieldData {
    FieldData {
        r#type: DataType::Int64 as i32,
        field_name: "count(*)".into(),
        field: Some(scalars(Scalars::LongData(LongArray { data: vec![count as i64] }))),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;

    use super::*;
    use crate::column::{Rows, Strings, bits};
    use crate::storage::part::Origin;

    fn field(id: i64, data_type: DataType, nullable: bool) -> Field {
        Field {
            id,
            name: format!("field {id}"),
            data_type,
            description: String::new(),
            primary_key: id == 100,
            auto_id: false,
            nullable,
            dynamic: false,
            dim: if data_type == DataType::FloatVector { 2 } else { 0 },
            max_length: if data_type == DataType::VarChar { 1000 } else { 0 },
            default_value: None,
        }
    }

    fn collection() -> Collection {
        Collection {
            id: 1,
            name: "c".into(),
            description: String::new(),
            fields: vec![
                field(100, DataType::Int64, false),
                field(101, DataType::Int8, true),
                field(102, DataType::Bool, false),
                field(103, DataType::Double, false),
                field(104, DataType::VarChar, true),
                field(105, DataType::Json, false),
                field(106, DataType::FloatVector, false),
            ],
            indexes: Vec::new(),
            loaded: true,
            created: 0,
            consistency_level: 0,
            properties: HashMap::new(),
        }
    }

    /// Rows whose texts and numbers take as much as they can.
    fn part(collection: &Collection, count: usize) -> Part {
        let strings = |text: &str| (0..count).map(|_| text.as_bytes()).collect::<Strings>();
        let column = |field_id, values| Column { field_id, validity: None, values };
        let mut columns = vec![
            column(100, Values::Int64((0..count as i64).map(|key| -1 - key).collect())),
            column(101, Values::Int8(vec![-1; count])),
            column(102, Values::Bool(vec![true; count])),
            column(103, Values::Double(vec![0.1; count])),
            column(104, Values::VarChar(strings(&"x".repeat(1000)))),
            column(105, Values::Json(strings(r#"{"a": 1}"#))),
            column(106, Values::FloatVector { dim: 2, values: vec![0.1; 2 * count] }),
        ];
        columns[1].validity = Some(bits(&vec![false; count]));
        let rows = Rows { count, columns, timestamps: vec![1; count] };
        Part::joined(rows, collection, Origin::Growing(Vec::new()), Vec::new())
    }

    #[test]
    fn the_size_of_an_answer_is_known_before_it_is_made() {
        let collection = collection();
        let part = part(&collection, 1000);
        let rows: Vec<Row> = (0..1000).map(|row| Row { part: 0, row }).collect();
        for field in &collection.fields {
            let mut selection = Selection::new(&collection, &[]).unwrap();
            selection.add(field);
            let message = selection.fetch(&[&part], &rows)[0].encoded_len();
            let bytes = selection.bytes(&[&part], &rows);
            // Names and lengths come once, whatever the number of rows.
            assert!(message <= bytes + 100 && bytes <= 5 * message, "{}: {message}, {bytes}", field.name);
        }
    }
}
