//! The filter language: expression -> syntax tree -> typed plan -> bit set of rows.
//!
//! - [`lexer`] and [`parser`] make the syntax tree ([`syntax`]), bounded in size and depth.
//! - [`resolve`] types it against a collection's schema and gives the [`plan`]: names are looked up, constants folded,
//!   types checked, so that evaluation can't fail.
//! - [`eval`] works on whole columns; [`row`] on single rows, for arithmetic and JSON.
//!
//! Semantics worth knowing: a null makes a comparison unknown, and only rows for which the whole filter is true are
//! selected. A JSON key that is absent or of another type makes a comparison (`!=` included) false. Integers divide
//! towards zero. What has no result, such as a division by zero, is null. Constants are compared with float fields after
//! rounding to single precision, and exactly with all others.

mod error;
mod eval;
mod json;
mod lexer;
mod like;
mod number;
mod operand;
mod parser;
mod plan;
mod resolve;
mod row;
mod syntax;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use fixedbitset::FixedBitSet;

pub use self::error::FilterError;
use self::plan::Predicate;
use self::resolve::Resolver;
use self::syntax::Comparison;
use crate::column::Rows;
use crate::proto::schema::{DataType, TemplateValue};
use crate::schema::Collection;

/// A filter, typed against the schema of one collection.
#[derive(Debug, Clone)]
pub struct Filter {
    predicate: Arc<Predicate>,
    keys: Option<PrimaryKeys>,
}

/// Primary keys named by a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PrimaryKeys {
    Int64(Vec<i64>),
    VarChar(Vec<String>),
}

impl Filter {
    /// Parses `expression` against the schema of `collection`; `templates` are the values of its `{name}` parameters. A
    /// blank expression matches all rows.
    pub fn parse(
        expression: &str,
        collection: &Collection,
        templates: &HashMap<String, TemplateValue>,
    ) -> Result<Filter, FilterError> {
        if expression.trim().is_empty() {
            return Ok(Filter::all());
        }
        let resolver = Resolver { collection, templates };
        let predicate = parser::parse(expression)
            .and_then(|expr| resolver.condition(&expr))
            .map_err(|problem| problem.explain(expression))?;
        let primary_key = collection.primary_key();
        let keys = keys_of(&predicate, primary_key.id, primary_key.data_type);
        Ok(Filter { predicate: Arc::new(predicate), keys })
    }

    /// The filter that matches every row.
    pub fn all() -> Filter {
        Filter { predicate: Arc::new(Predicate::Always(true)), keys: None }
    }

    /// Whether it is known to match every row.
    pub fn is_all(&self) -> bool {
        *self.predicate == Predicate::Always(true)
    }

    /// The rows for which the filter is true. Where it is unknown because of a null, a row is not selected.
    pub fn evaluate(&self, rows: &Rows) -> FixedBitSet {
        eval::truth(&self.predicate, rows).yes
    }

    /// The keys, if the filter says exactly that the primary key is one of some constants: such rows can be found without
    /// a scan. Without duplicates, in ascending order.
    pub fn primary_keys(&self) -> Option<PrimaryKeys> {
        self.keys.clone()
    }
}

fn keys_of(predicate: &Predicate, key: i64, data_type: DataType) -> Option<PrimaryKeys> {
    let mut keys = match predicate {
        Predicate::Number { field, comparison: Comparison::Equal, value }
            if *field == key && data_type == DataType::Int64 =>
        {
            let (low, high) = eval::int_range(Comparison::Equal, *value);
            PrimaryKeys::Int64((low..=high).collect())
        }
        Predicate::IntIn { field, values } if *field == key => PrimaryKeys::Int64(values.iter().copied().collect()),
        Predicate::Text { field, comparison: Comparison::Equal, value } if *field == key => {
            PrimaryKeys::VarChar(vec![value.clone()])
        }
        Predicate::TextIn { field, values } if *field == key => PrimaryKeys::VarChar(values.iter().cloned().collect()),
        _ => return None,
    };
    match &mut keys {
        PrimaryKeys::Int64(keys) => keys.sort_unstable(),
        PrimaryKeys::VarChar(keys) => keys.sort_unstable(),
    }
    Some(keys)
}
