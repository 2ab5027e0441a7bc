//! Calls on indexes.

use std::collections::HashMap;

use vectorkeep_distance::Metric;

use crate::error::{Code, Error, Result};
use crate::gate::Database;
use crate::proto::common::{IndexState, KeyValuePair};
use crate::proto::milvus::{
    CreateIndexRequest, DescribeIndexRequest, DescribeIndexResponse, DropIndexRequest, IndexDescription,
};
use crate::proto::schema::DataType;
use crate::schema::{Collection, Field, Index};
use crate::storage::maintenance::indexed_rows;

/// Vector indexes that are served; all but FLAT are built as one graph index.
const VECTOR_INDEXES: [&str; 3] = ["AUTOINDEX", "HNSW", "FLAT"];
/// Scalar indexes that are accepted; filters are evaluated over columns, which needs no index.
const SCALAR_INDEXES: [&str; 4] = ["", "AUTOINDEX", "INVERTED", "STL_SORT"];

/// Declares an index.
pub async fn create(database: &Database, request: CreateIndexRequest) -> Result<()> {
    let live = database.shard.collection(&request.collection_name)?;
    let meta = live.meta.load_full();
    let field = meta.field(&request.field_name).ok_or_else(|| {
        let message = format!("cannot create index on non-exist field: {}", request.field_name);
        Error::new(Code::FieldNotFound, message)
    })?;
    let mut params: HashMap<String, String> =
        request.extra_params.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect();
    if let Some(nested) = params.remove("params") {
        let nested: serde_json::Value =
            serde_json::from_str(&nested).map_err(|_| Error::invalid("index params must be a JSON object"))?;
        for (key, value) in nested.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            params.insert(key.clone(), text);
        }
    }
    let index_type = params.remove("index_type").unwrap_or_default();
    let metric = params.remove("metric_type").unwrap_or_default();
    let name = if request.index_name.is_empty() { field.name.clone() } else { request.index_name.clone() };
    let index = match field.data_type {
        DataType::FloatVector => vector_index(field, index_type, &metric, params)?,
        _ => scalar_index(field, index_type, params)?,
    };
    if meta.indexes.iter().any(|other| other.name == name && other.field_id != field.id) {
        return Err(Error::invalid(format!("index name {name} is in use by another field")));
    }
    database.shard.create_index(&live, Index { name, ..index }).await
}

fn vector_index(field: &Field, index_type: String, metric: &str, params: HashMap<String, String>) -> Result<Index> {
    let index_type = if index_type.is_empty() { "AUTOINDEX".to_owned() } else { index_type };
    if !VECTOR_INDEXES.contains(&index_type.as_str()) {
        return Err(Error::new(
            Code::Unsupported,
            format!("index type {index_type} is not supported by this engine; use {}", VECTOR_INDEXES.join(", ")),
        ));
    }
    let metric = match (metric, index_type.as_str()) {
        ("", _) => Metric::Cosine,
        (name, _) => Metric::parse(name).ok_or_else(|| {
            Error::invalid(format!("metric type {name} is not valid for field {}; use COSINE, L2 or IP", field.name))
        })?,
    };
    for (key, range) in [("M", 2..=2048), ("efConstruction", 1..=65_535)] {
        let value = params.get(key).map(|value| value.parse::<i64>());
        if value.is_some_and(|value| {
            value.is_ok_and(|value| !range.contains(&value)) || params[key].parse::<i64>().is_err()
        }) {
            return Err(Error::invalid(format!("index parameter {key} must be in range {range:?}")));
        }
    }
    Ok(Index { id: 0, name: String::new(), field_id: field.id, index_type, metric: metric.name().into(), params })
}

fn scalar_index(field: &Field, index_type: String, params: HashMap<String, String>) -> Result<Index> {
    if !SCALAR_INDEXES.contains(&index_type.as_str()) {
        let message = format!("index type {index_type} is not supported on the scalar field {}", field.name);
        return Err(Error::new(Code::Unsupported, message));
    }
    Ok(Index { id: 0, name: String::new(), field_id: field.id, index_type, metric: String::new(), params })
}

/// Describes the indexes of a collection, or one of them.
pub fn describe(database: &Database, request: &DescribeIndexRequest) -> Result<DescribeIndexResponse> {
    let live = database.shard.collection(&request.collection_name)?;
    let (meta, view) = (live.meta.load_full(), live.view());
    let index_descriptions: Vec<_> = meta
        .indexes
        .iter()
        .filter(|index| request.index_name.is_empty() || index.name == request.index_name)
        .filter(|index| request.field_name.is_empty() || field_name(&meta, index) == request.field_name)
        .map(|index| {
            let scalar = index.metric.is_empty() || index.index_type == "FLAT";
            let (indexed, total) = match indexed_rows(&view, index.field_id) {
                (_, total) if scalar || !meta.loaded => (total, total),
                counts => counts,
            };
            IndexDescription {
                index_name: index.name.clone(),
                index_id: index.id,
                params: described_params(index),
                field_name: field_name(&meta, index).to_owned(),
                indexed_rows: indexed as i64,
                total_rows: total as i64,
                pending_index_rows: total.saturating_sub(indexed) as i64,
                state: if indexed >= total { IndexState::Finished } else { IndexState::InProgress } as i32,
                ..Default::default()
            }
        })
        .collect();
    match index_descriptions.is_empty() {
        true => Err(not_found(&request.collection_name, &request.index_name)),
        false => Ok(DescribeIndexResponse { index_descriptions, ..Default::default() }),
    }
}

/// Removes an index. One that isn't there is no error in Milvus.
pub async fn drop(database: &Database, request: &DropIndexRequest) -> Result<()> {
    let live = database.shard.collection(&request.collection_name)?;
    let meta = live.meta.load_full();
    let named = |index: &&Index| match request.index_name.is_empty() {
        true => field_name(&meta, index) == request.field_name,
        false => index.name == request.index_name,
    };
    match meta.indexes.iter().find(named) {
        Some(index) => database.shard.drop_index(&live, index.field_id).await,
        None => Ok(()),
    }
}

fn field_name<'a>(meta: &'a Collection, index: &Index) -> &'a str {
    meta.field_by_id(index.field_id).map_or("", |field| &field.name)
}

fn described_params(index: &Index) -> Vec<KeyValuePair> {
    let pair = |key: &str, value: &str| KeyValuePair { key: key.into(), value: value.into() };
    let mut params = vec![pair("index_type", &index.index_type)];
    if !index.metric.is_empty() {
        params.push(pair("metric_type", &index.metric));
    }
    let mut rest: Vec<_> = index.params.iter().map(|(key, value)| pair(key, value)).collect();
    rest.sort_by(|a, b| a.key.cmp(&b.key));
    params.extend(rest);
    params
}

fn not_found(collection: &str, index: &str) -> Error {
    Error::new(Code::IndexNotFound, format!("index not found[indexName={index}, collection={collection}]"))
}

/// Milvus loads a collection only if all its vector fields have an index; so do we, so that programs behave the same.
pub fn required_for_load(meta: &Collection) -> Result<()> {
    match meta.fields.iter().find(|field| field.dim > 0 && meta.index_on(field.id).is_none()) {
        Some(field) => Err(Error::new(
            Code::IndexNotFound,
            format!("there is no vector index on field: [{}], please create index firstly", field.name),
        )),
        None => Ok(()),
    }
}
