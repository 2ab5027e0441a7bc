//! Parameters that Milvus carries as lists of key and value texts.

use std::str::FromStr;

use crate::error::{Code, Error, Result};
use crate::proto::common::KeyValuePair;

/// Limits of Milvus on search and query results.
pub const MAX_RESULTS: usize = 16_384;

/// The value of `key`.
pub fn get<'a>(pairs: &'a [KeyValuePair], key: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str())
}

/// The value of `key` as a number or another type that is written as text; an unreadable one is an error.
pub fn parse<T: FromStr>(pairs: &[KeyValuePair], key: &str) -> Result<Option<T>> {
    get(pairs, key)
        .map(|text| {
            let text = text.trim().trim_matches('"');
            text.parse().map_err(|_| Error::invalid(format!("invalid value of parameter {key}: {text}")))
        })
        .transpose()
}

/// A boolean as Python or JSON writes it.
pub fn flag(pairs: &[KeyValuePair], key: &str) -> Result<bool> {
    match get(pairs, key).map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("false") | Some("") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(Error::invalid(format!("invalid value of parameter {key}: {other}; use true or false"))),
    }
}

/// The offset and the number of rows wanted, checked against Milvus' limits.
pub fn page(offset: Option<i64>, limit: i64, limit_name: &str) -> Result<(usize, usize)> {
    let offset = offset.unwrap_or(0);
    let fits = |value: i64| usize::try_from(value).ok().filter(|value| *value <= MAX_RESULTS);
    let wrong = |what: &str, value: i64| {
        Error::invalid(format!(
            "{what} [{value}] is invalid, it should be in range [{}, {MAX_RESULTS}]",
            i32::from(what != "offset")
        ))
    };
    let offset_rows = fits(offset).ok_or_else(|| wrong("offset", offset))?;
    let limit_rows = fits(limit).filter(|limit| *limit > 0).ok_or_else(|| wrong(limit_name, limit))?;
    match offset_rows + limit_rows <= MAX_RESULTS {
        true => Ok((offset_rows, limit_rows)),
        false => Err(wrong(&format!("offset+{limit_name}"), offset + limit)),
    }
}

/// Refuses parameters that change what a request means and that are not served.
pub fn refuse(pairs: &[KeyValuePair], names: &[&str]) -> Result<()> {
    match names.iter().find(|name| get(pairs, name).is_some_and(|value| !matches!(value, "" | "false" | "False"))) {
        Some(name) => Err(Error::unsupported(&format!("the parameter {name}"))),
        None => Ok(()),
    }
}

/// Refuses partitions other than the default one.
pub fn only_default_partition<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    match names.into_iter().find(|name| !matches!(name.as_str(), "" | "_default")) {
        Some(name) => Err(Error::new(Code::PartitionNotFound, format!("partition not found[partition={name}]"))),
        None => Ok(()),
    }
}
