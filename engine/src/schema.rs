//! The schema of a collection, checked once when it is created and trusted afterwards.

use std::collections::HashMap;

use crate::proto::schema::DataType;
use crate::proto::storage;

/// The name of the hidden JSON field that holds dynamic values.
pub const DYNAMIC_FIELD: &str = "$meta";
/// Ids below are Milvus' own (row id and timestamp); the fields of users start here.
pub const FIRST_FIELD_ID: i64 = 100;

/// A field of a collection.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Field {
    pub id: i64,
    pub name: String,
    pub data_type: DataType,
    pub description: String,
    pub primary_key: bool,
    pub auto_id: bool,
    pub nullable: bool,
    /// Whether this is the hidden `$meta` field.
    pub dynamic: bool,
    /// Vectors: dimension; 0 otherwise.
    pub dim: usize,
    /// Varchar: greatest length in bytes; 0 otherwise.
    pub max_length: usize,
    /// Used where a row gives no value.
    pub default_value: Option<serde_json::Value>,
}

/// An index as declared by the user.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Index {
    pub id: i64,
    pub name: String,
    pub field_id: i64,
    pub index_type: String,
    /// Empty for scalar indexes.
    pub metric: String,
    pub params: HashMap<String, String>,
}

/// A collection as the catalogue knows it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Collection {
    pub id: i64,
    pub name: String,
    pub description: String,
    pub fields: Vec<Field>,
    pub indexes: Vec<Index>,
    pub loaded: bool,
    /// Hybrid timestamp of the creation.
    pub created: u64,
    pub consistency_level: i32,
    pub properties: HashMap<String, String>,
}

impl Collection {
    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field with id `id`.
    pub fn field_by_id(&self, id: i64) -> Option<&Field> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// The hidden field of dynamic values, if the collection has one.
    pub fn dynamic_field(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.dynamic)
    }

    /// The primary key. A collection can't be created without one; the first field stands in for the type system.
    pub fn primary_key(&self) -> &Field {
        self.fields.iter().find(|field| field.primary_key).unwrap_or(&self.fields[0])
    }

    /// The index on field `field_id`.
    pub fn index_on(&self, field_id: i64) -> Option<&Index> {
        self.indexes.iter().find(|index| index.field_id == field_id)
    }

    /// The stored form.
    pub fn to_stored(&self) -> storage::Collection {
        storage::Collection {
            id: self.id,
            name: self.name.clone(),
            description: self.description.clone(),
            fields: self.fields.iter().map(Field::to_stored).collect(),
            indexes: self.indexes.iter().map(Index::to_stored).collect(),
            loaded: self.loaded,
            created: self.created,
            consistency_level: self.consistency_level,
            properties: self.properties.clone(),
        }
    }

    /// A collection from its stored form; refused, with the reason, where it makes no sense.
    pub fn from_stored(stored: storage::Collection) -> Result<Self, String> {
        let fields = stored.fields.into_iter().map(Field::from_stored).collect::<Result<Vec<_>, _>>()?;
        if fields.iter().filter(|field| field.primary_key).count() != 1 {
            return Err("a collection without exactly one primary key".into());
        }
        Ok(Self {
            id: stored.id,
            name: stored.name,
            description: stored.description,
            fields,
            indexes: stored.indexes.into_iter().map(Index::from_stored).collect(),
            loaded: stored.loaded,
            created: stored.created,
            consistency_level: stored.consistency_level,
            properties: stored.properties,
        })
    }
}

impl Field {
    fn to_stored(&self) -> storage::Field {
        storage::Field {
            id: self.id,
            name: self.name.clone(),
            r#type: self.data_type as i32,
            description: self.description.clone(),
            primary_key: self.primary_key,
            auto_id: self.auto_id,
            nullable: self.nullable,
            dynamic: self.dynamic,
            dim: self.dim as u32,
            max_length: self.max_length as u32,
            default_value: self.default_value.as_ref().map(ToString::to_string),
        }
    }

    fn from_stored(stored: storage::Field) -> Result<Self, String> {
        let default_value = stored.default_value.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            id: stored.id,
            data_type: DataType::try_from(stored.r#type)
                .map_err(|_| format!("field type {} is unknown", stored.r#type))?,
            name: stored.name,
            description: stored.description,
            primary_key: stored.primary_key,
            auto_id: stored.auto_id,
            nullable: stored.nullable,
            dynamic: stored.dynamic,
            dim: stored.dim as usize,
            max_length: stored.max_length as usize,
            default_value: default_value.map_err(|_| "a default value that is not JSON".to_owned())?,
        })
    }
}

impl Index {
    fn to_stored(&self) -> storage::Index {
        storage::Index {
            id: self.id,
            name: self.name.clone(),
            field_id: self.field_id,
            r#type: self.index_type.clone(),
            metric: self.metric.clone(),
            params: self.params.clone(),
        }
    }

    fn from_stored(stored: storage::Index) -> Self {
        Self {
            id: stored.id,
            name: stored.name,
            field_id: stored.field_id,
            index_type: stored.r#type,
            metric: stored.metric,
            params: stored.params,
        }
    }
}
