//! Reading: vector search, queries by filter, and the fields of their results.

pub mod output;
pub mod retrieve;
pub mod search;
