//! Milvus' collection schemas to the engine's, and back.

use std::collections::HashSet;

use prost::Message;

use crate::error::{Code, Error, Result};
use crate::proto::common::KeyValuePair;
use crate::proto::milvus::CreateCollectionRequest;
use crate::proto::schema::value_field::Data;
use crate::proto::schema::{CollectionSchema, DataType, FieldSchema, ValueField};
use crate::schema::{Collection, DYNAMIC_FIELD, FIRST_FIELD_ID, Field};

const MAX_NAME: usize = 255;
const MAX_FIELDS: usize = 64;
const MAX_VECTOR_FIELDS: usize = 4;
const MAX_DIM: usize = 32_768;
const MAX_VARCHAR: usize = 65_535;

/// A new collection from the request that creates it. Ids and times are filled in when it is committed.
pub fn collection(request: &CreateCollectionRequest) -> Result<Collection> {
    let schema = CollectionSchema::decode(request.schema.as_slice())
        .map_err(|_| illegal("the schema in the request can't be decoded"))?;
    check_name("collection", &request.collection_name)?;
    if !schema.functions.is_empty() {
        return Err(Error::unsupported("a schema with functions"));
    }
    if let Some(array) = schema.struct_array_fields.first() {
        return Err(Error::unsupported(&format!("the struct array field {}", array.name)));
    }
    if request.num_partitions > 1 {
        return Err(Error::unsupported("num_partitions above 1"));
    }
    let mut fields = Vec::new();
    for (number, declared) in schema.fields.iter().enumerate() {
        fields.push(field(declared, FIRST_FIELD_ID + number as i64, schema.auto_id)?);
    }
    if schema.enable_dynamic_field && !fields.iter().any(|field| field.dynamic) {
        fields.push(dynamic_field(FIRST_FIELD_ID + fields.len() as i64));
    }
    check_fields(&fields)?;
    Ok(Collection {
        id: 0,
        name: request.collection_name.clone(),
        description: schema.description,
        fields,
        indexes: Vec::new(),
        loaded: false,
        created: 0,
        consistency_level: request.consistency_level,
        properties: request.properties.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
    })
}

fn check_fields(fields: &[Field]) -> Result<()> {
    let mut names = HashSet::new();
    if let Some(twice) = fields.iter().find(|field| !names.insert(&field.name)) {
        return Err(illegal(format!("duplicated field name: {}", twice.name)));
    }
    if fields.len() > MAX_FIELDS {
        return Err(illegal(format!("maximum field's number should be limited to {MAX_FIELDS}, got {}", fields.len())));
    }
    match fields.iter().filter(|field| field.primary_key).count() {
        1 => {}
        0 => return Err(illegal("the schema has no primary key; mark one Int64 or VarChar field as is_primary")),
        _ => return Err(illegal("the schema has more than one primary key")),
    }
    match fields.iter().filter(|field| field.dim > 0).count() {
        0 => Err(illegal("the schema has no vector field")),
        count if count > MAX_VECTOR_FIELDS => {
            Err(illegal(format!("maximum vector field's number should be limited to {MAX_VECTOR_FIELDS}, got {count}")))
        }
        _ => Ok(()),
    }
}

fn field(declared: &FieldSchema, id: i64, schema_auto_id: bool) -> Result<Field> {
    let name = &declared.name;
    if !declared.is_dynamic {
        check_name("field", name)?;
    }
    let wrong = |what: &str| illegal(format!("field {name}: {what}"));
    if declared.is_partition_key || declared.is_clustering_key {
        return Err(Error::unsupported(&format!("field {name} as a partition or clustering key")));
    }
    if declared.is_function_output {
        return Err(Error::unsupported(&format!("field {name} as the output of a function")));
    }
    let data_type = DataType::try_from(declared.data_type).map_err(|_| wrong("its data type is unknown"))?;
    let (mut dim, mut max_length) = (0, 0);
    match data_type {
        DataType::FloatVector => {
            dim = number(&declared.type_params, "dim")
                .filter(|dim| (2..=MAX_DIM).contains(dim))
                .ok_or_else(|| wrong(&format!("invalid dimension: it should be in range 2 ~ {MAX_DIM}")))?;
        }
        DataType::VarChar => {
            max_length = number(&declared.type_params, "max_length")
                .filter(|length| (1..=MAX_VARCHAR).contains(length))
                .ok_or_else(|| wrong(&format!("max_length should be in range [1, {MAX_VARCHAR}]")))?;
        }
        DataType::Bool | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {}
        DataType::Float | DataType::Double | DataType::Json => {}
        other => return Err(Error::unsupported(&format!("field {name} of type {}", other.as_str_name()))),
    }
    if declared.is_primary_key && !matches!(data_type, DataType::Int64 | DataType::VarChar) {
        return Err(wrong("the primary key should be Int64 or VarChar"));
    }
    if declared.nullable && (declared.is_primary_key || dim > 0) {
        return Err(wrong("a primary key or a vector can't be nullable"));
    }
    let auto_id = declared.auto_id || (declared.is_primary_key && schema_auto_id);
    if auto_id && !declared.is_primary_key {
        return Err(wrong("only the primary key can be auto_id"));
    }
    Ok(Field {
        id,
        name: name.clone(),
        data_type,
        description: declared.description.clone(),
        primary_key: declared.is_primary_key,
        auto_id,
        nullable: declared.nullable,
        dynamic: declared.is_dynamic,
        dim,
        max_length,
        default_value: default_value(declared, data_type, max_length).map_err(|what| wrong(&what))?,
    })
}

fn dynamic_field(id: i64) -> Field {
    Field {
        id,
        name: DYNAMIC_FIELD.into(),
        data_type: DataType::Json,
        description: "dynamic schema".into(),
        primary_key: false,
        auto_id: false,
        nullable: false,
        dynamic: true,
        dim: 0,
        max_length: 0,
        default_value: None,
    }
}

fn default_value(
    declared: &FieldSchema,
    data_type: DataType,
    max_length: usize,
) -> std::result::Result<Option<serde_json::Value>, String> {
    let Some(data) = declared.default_value.as_ref().and_then(|value| value.data.clone()) else { return Ok(None) };
    if declared.is_primary_key {
        return Err("a primary key can't have a default value".into());
    }
    let wrong_type = || "the default value has another type than the field".to_owned();
    // Clients send the widest type of the value's kind, whatever the field's.
    let integer = match &data {
        Data::IntData(value) => Some(i64::from(*value)),
        Data::LongData(value) => Some(*value),
        _ => None,
    };
    let float = match &data {
        Data::FloatData(value) => Some(f64::from(*value)),
        Data::DoubleData(value) => Some(*value),
        _ => integer.map(|value| value as f64),
    };
    let value = match data_type {
        DataType::Bool => match data {
            Data::BoolData(value) => value.into(),
            _ => return Err(wrong_type()),
        },
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let value = integer.ok_or_else(wrong_type)?;
            let bits = match data_type {
                DataType::Int8 => 8,
                DataType::Int16 => 16,
                DataType::Int32 => 32,
                _ => 64,
            };
            if value != value << (64 - bits) >> (64 - bits) {
                return Err(format!("the default value {value} does not fit into {}", data_type.as_str_name()));
            }
            value.into()
        }
        DataType::Float | DataType::Double => {
            let fits =
                |value: &f64| value.is_finite() && (data_type == DataType::Double || (*value as f32).is_finite());
            float.filter(fits).map(serde_json::Value::from).ok_or_else(wrong_type)?
        }
        DataType::VarChar => match data {
            Data::StringData(value) if value.len() <= max_length => value.into(),
            Data::StringData(value) => {
                return Err(format!("the default value is {} bytes long, max_length is {max_length}", value.len()));
            }
            _ => return Err(wrong_type()),
        },
        _ => return Err("a field of this type can't have a default value".into()),
    };
    Ok(Some(value))
}

/// The schema as `DescribeCollection` tells it.
pub fn described(collection: &Collection) -> CollectionSchema {
    CollectionSchema {
        name: collection.name.clone(),
        description: collection.description.clone(),
        auto_id: collection.primary_key().auto_id,
        fields: collection.fields.iter().filter(|field| !field.dynamic).map(described_field).collect(),
        enable_dynamic_field: collection.dynamic_field().is_some(),
        ..Default::default()
    }
}

fn described_field(field: &Field) -> FieldSchema {
    let mut type_params = Vec::new();
    if field.dim > 0 {
        type_params.push(KeyValuePair { key: "dim".into(), value: field.dim.to_string() });
    }
    if field.max_length > 0 {
        type_params.push(KeyValuePair { key: "max_length".into(), value: field.max_length.to_string() });
    }
    FieldSchema {
        field_id: field.id,
        name: field.name.clone(),
        is_primary_key: field.primary_key,
        description: field.description.clone(),
        data_type: field.data_type as i32,
        type_params,
        auto_id: field.auto_id,
        nullable: field.nullable,
        default_value: field.default_value.as_ref().map(|value| ValueField { data: described_default(field, value) }),
        ..Default::default()
    }
}

fn described_default(field: &Field, value: &serde_json::Value) -> Option<Data> {
    Some(match field.data_type {
        DataType::Bool => Data::BoolData(value.as_bool()?),
        DataType::Int64 => Data::LongData(value.as_i64()?),
        DataType::Float => Data::FloatData(value.as_f64()? as f32),
        DataType::Double => Data::DoubleData(value.as_f64()?),
        DataType::VarChar => Data::StringData(value.as_str()?.into()),
        _ => Data::IntData(i32::try_from(value.as_i64()?).ok()?),
    })
}

fn number(pairs: &[KeyValuePair], key: &str) -> Option<usize> {
    pairs.iter().find(|pair| pair.key == key)?.value.parse().ok()
}

/// Names of collections and fields: a letter or underscore, then letters, digits, underscores; collections also `$`.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let mut characters = name.chars();
    let starts_well = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    let goes_on_well = characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    match starts_well && goes_on_well && name.len() <= MAX_NAME {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "invalid {what} name: {name:?}; it must start with a letter or an underscore, go on with letters, digits and \
             underscores, and be at most {MAX_NAME} characters long"
        ))),
    }
}

fn illegal(what: impl Into<String>) -> Error {
    Error::new(Code::InvalidParameter, what)
}
