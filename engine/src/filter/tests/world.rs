//! A collection with a field of every type and rows for it.

use std::collections::HashMap;

use serde_json::Value;

use crate::column::{Column, Rows, Strings, Values, bits};
use crate::proto::schema::DataType;
use crate::schema::{Collection, Field};

/// A row as a plain struct; `None` is null.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) tiny: Option<i8>,
    pub(super) num: Option<i32>,
    pub(super) price: Option<f32>,
    pub(super) score: f64,
    pub(super) name: Option<String>,
    pub(super) flag: Option<bool>,
    pub(super) meta: Option<Value>,
    /// The hidden field of dynamic values.
    pub(super) dynamic: Option<Value>,
}

const FIELDS: [(&str, DataType); 10] = [
    ("id", DataType::Int64),
    ("tiny", DataType::Int8),
    ("num", DataType::Int32),
    ("price", DataType::Float),
    ("score", DataType::Double),
    ("name", DataType::VarChar),
    ("flag", DataType::Bool),
    ("meta", DataType::Json),
    ("vector", DataType::FloatVector),
    ("$meta", DataType::Json),
];

/// The collection; without its dynamic field on demand.
pub(super) fn collection(dynamic: bool) -> Collection {
    let field = |(position, (name, data_type)): (usize, &(&str, DataType))| Field {
        id: 100 + position as i64,
        name: (*name).to_owned(),
        data_type: *data_type,
        description: String::new(),
        primary_key: position == 0,
        auto_id: false,
        nullable: position > 0,
        dynamic: *name == "$meta",
        dim: if *data_type == DataType::FloatVector { 2 } else { 0 },
        max_length: 100,
        default_value: None,
    };
    Collection {
        id: 1,
        name: "shop".to_owned(),
        description: String::new(),
        fields: FIELDS.iter().enumerate().map(field).filter(|field| dynamic || !field.dynamic).collect(),
        indexes: Vec::new(),
        loaded: true,
        created: 0,
        consistency_level: 0,
        properties: HashMap::new(),
    }
}

/// The same collection with a varchar primary key.
pub(super) fn text_key_collection() -> Collection {
    let mut collection = collection(false);
    collection.fields[0].data_type = DataType::VarChar;
    collection
}

/// The rows in columns.
pub(super) fn columns(rows: &[Row]) -> Rows {
    fn column<T: Clone>(
        rows: &[Row],
        position: i64,
        get: impl Fn(&Row) -> Option<T>,
        values: impl Fn(Vec<Option<T>>) -> Values,
    ) -> Column {
        let cells: Vec<Option<T>> = rows.iter().map(get).collect();
        let valid: Vec<bool> = cells.iter().map(Option::is_some).collect();
        let validity = valid.contains(&false).then(|| bits(&valid));
        Column { field_id: 100 + position, validity, values: values(cells) }
    }
    fn flat<T: Default>(cells: Vec<Option<T>>) -> Vec<T> {
        cells.into_iter().map(Option::unwrap_or_default).collect()
    }
    fn texts(cells: Vec<Option<String>>) -> Strings {
        let mut strings = Strings::default();
        cells.iter().for_each(|cell| strings.push(cell.as_deref().unwrap_or_default().as_bytes()));
        strings
    }
    let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    Rows {
        count: rows.len(),
        columns: vec![
            column(rows, 0, |row| Some(row.id), |cells| Values::Int64(flat(cells))),
            column(rows, 1, |row| row.tiny, |cells| Values::Int8(flat(cells))),
            column(rows, 2, |row| row.num, |cells| Values::Int32(flat(cells))),
            column(rows, 3, |row| row.price, |cells| Values::Float(flat(cells))),
            column(rows, 4, |row| Some(row.score), |cells| Values::Double(flat(cells))),
            column(rows, 5, |row| row.name.clone(), |cells| Values::VarChar(texts(cells))),
            column(rows, 6, |row| row.flag, |cells| Values::Bool(flat(cells))),
            column(rows, 7, |row| text(&row.meta), |cells| Values::Json(texts(cells))),
            column(rows, 8, |_| Some(()), |cells| Values::FloatVector { dim: 2, values: vec![0.0; 2 * cells.len()] }),
            column(rows, 9, |row| text(&row.dynamic), |cells| Values::Json(texts(cells))),
        ],
        timestamps: vec![1; rows.len()],
    }
}
