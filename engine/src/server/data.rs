//! Calls that write and read rows.

use std::sync::Arc;

use prost::Message;
use vectorkeep_distance::Metric;

use crate::budget::RequestMemory;
use crate::column::Values;
use crate::error::{Code, Error, Result};
use crate::filter::{Filter, FilterError};
use crate::gate::Database;
use crate::proto::common::{KeyValuePair, PlaceholderGroup, PlaceholderType};
use crate::proto::milvus::search_request::SearchInput;
use crate::proto::milvus::{
    DeleteRequest, FlushRequest, FlushResponse, InsertRequest, MutationResult, QueryRequest, QueryResults,
    SearchRequest, SearchResults, UpsertRequest,
};
use crate::proto::schema::i_ds::IdField;
use crate::proto::schema::{IDs, LongArray, SearchResultData};
use crate::query::output::{KeyRef, Row, Selection, count_field, field_bytes, ids};
use crate::query::retrieve;
use crate::query::search::{Hit, Search};
use crate::schema::{Collection, Field};
use crate::server::fields::{self, Purpose};
use crate::server::milvus::Caller;
use crate::server::params;
use crate::storage::collection::{LiveCollection, View};
use crate::storage::maintenance::not_loaded;
use crate::storage::part::{Keys, Part};

/// Parameters of Milvus that would change a result and are not served.
const REFUSED: [&str; 9] = [
    "group_by_field",
    "group_by_fields",
    "group_size",
    "order_by_fields",
    "json_path",
    "analyzer_name",
    "radius",
    "range_filter",
    "search_iter_v2",
];
const DEFAULT_EF: usize = 64;
/// Milvus' limit. An index makes room for so many candidates before it looks at the first.
const MAX_EF: usize = 32_768;
/// Clients understand no longer message.
const MAX_ANSWER_BYTES: usize = i32::MAX as usize;

/// Adds rows.
pub async fn insert(caller: &Caller, request: InsertRequest) -> Result<MutationResult> {
    let Caller { database, writers, memory, .. } = caller;
    params::only_default_partition([&request.partition_name])?;
    let live = database.shard.collection(&request.collection_name)?;
    let meta = live.meta.load_full();
    let count = request.num_rows as usize;
    let new_keys = |count| new_keys(database, count);
    let reserve = |bytes| memory.reserve(bytes);
    let rows = fields::rows(&meta, request.fields_data, count, Purpose::Insert, new_keys, reserve)?;
    let keys = Keys::of_rows(&rows, meta.primary_key().id, 0..count);
    let _sharing = writers.share(meta.id).await;
    let timestamp = database.shard.insert(&live, rows, None).await?;
    Ok(MutationResult { insert_cnt: count as i64, ..mutation(keys, count, timestamp) })
}

/// Replaces the rows with the same primary keys, or adds them.
pub async fn upsert(caller: &Caller, request: UpsertRequest) -> Result<MutationResult> {
    let Caller { database, writers, memory, .. } = caller;
    params::only_default_partition([&request.partition_name])?;
    if request.partial_update {
        return Err(Error::unsupported("a partial update"));
    }
    let live = database.shard.collection(&request.collection_name)?;
    let meta = live.meta.load_full();
    let count = request.num_rows as usize;
    let new_keys = |count| new_keys(database, count);
    let reserve = |bytes| memory.reserve(bytes);
    let rows = fields::rows(&meta, request.fields_data, count, Purpose::Upsert, new_keys, reserve)?;
    let keys = Keys::of_rows(&rows, meta.primary_key().id, 0..count);
    if let Some(twice) = duplicate(&keys) {
        return Err(Error::invalid(format!("duplicate primary key {twice} in one upsert request")));
    }
    let _sharing = writers.share(meta.id).await;
    let timestamp = database.shard.insert(&live, rows, Some(keys.clone())).await?;
    Ok(MutationResult { upsert_cnt: count as i64, insert_cnt: count as i64, ..mutation(keys, count, timestamp) })
}

/// Deletes rows by primary key or by filter.
pub async fn delete(caller: &Caller, request: DeleteRequest) -> Result<MutationResult> {
    let Caller { database, writers, .. } = caller;
    params::only_default_partition([&request.partition_name])?;
    let live = database.shard.collection(&request.collection_name)?;
    let meta = live.meta.load_full();
    if request.expr.trim().is_empty() {
        return Err(Error::invalid("delete needs a filter expression or primary keys"));
    }
    let filter = Filter::parse(&request.expr, &meta, &request.expr_template_values)?;
    if let Some(keys) = filter.primary_keys() {
        let _sharing = writers.share(meta.id).await;
        return remove(database, &live, Keys::from(keys)).await;
    }
    let _alone = writers.alone(meta.id).await;
    // Also writes whose clients did not wait for their end: they go on without them.
    database.shard.barrier().await?;
    let view = loaded_view(&live)?;
    let found = tokio::task::block_in_place(|| retrieve::keys(&view, &filter, meta.primary_key().id));
    remove(database, &live, found.unwrap_or(Keys::Int(Vec::new()))).await
}

async fn remove(database: &Database, live: &Arc<LiveCollection>, keys: Keys) -> Result<MutationResult> {
    let count = keys.len();
    if keys.is_empty() {
        return Ok(MutationResult { acknowledged: true, timestamp: live.view().timestamp, ..Default::default() });
    }
    let timestamp = database.shard.delete(live, keys).await?;
    // No ids: the SDK would give them to the program in the place of the count.
    Ok(MutationResult { delete_cnt: count as i64, acknowledged: true, timestamp, ..Default::default() })
}

/// Searches by vectors.
pub fn search(caller: &Caller, request: SearchRequest) -> Result<SearchResults> {
    let Caller { database, memory, .. } = caller;
    params::only_default_partition(&request.partition_names)?;
    let extras = [
        ("sub_reqs", !request.sub_reqs.is_empty()),
        ("function_score", request.function_score.is_some()),
        ("highlighter", request.highlighter.is_some()),
        ("search_aggregation", request.search_aggregation.is_some()),
        ("function_chains", !request.function_chains.is_empty()),
    ];
    if let Some((name, _)) = extras.iter().find(|(_, present)| *present) {
        return Err(Error::unsupported(&format!("a search with {name}")));
    }
    let live = database.shard.collection(&request.collection_name)?;
    let meta = live.meta.load_full();
    let view = loaded_view(&live)?;
    let parameters = search_parameters(&request.search_params)?;
    params::refuse(&parameters, &REFUSED)?;

    let field = vector_field(&meta, params::get(&parameters, "anns_field"))?;
    let metric = search_metric(&meta, field, params::get(&parameters, "metric_type"))?;
    let topk = params::parse(&parameters, "topk")?.ok_or_else(|| missing("topk"))?;
    let (offset, limit) = params::page(params::parse(&parameters, "offset")?, topk, "topk")?;
    let selection = Selection::new(&meta, &request.output_fields)?;
    let filter = Filter::parse(&request.dsl, &meta, &request.expr_template_values)?;
    let sent;
    let queries: Vec<&[f32]> = match &request.search_input {
        Some(SearchInput::PlaceholderGroup(bytes)) => {
            sent = sent_vectors(bytes, field)?;
            sent.chunks(field.dim).collect()
        }
        Some(SearchInput::Ids(ids)) => stored_vectors(ids, &view, &meta, field)?,
        None => return Err(missing("the vectors to search for")),
    };
    let search = Search {
        field_id: field.id,
        primary_key: meta.primary_key().id,
        metric,
        dim: field.dim,
        limit: offset + limit,
        expansion: expansion(&parameters)?,
        filter: &filter,
        growing: !params::flag(&parameters, "ignore_growing")?,
    };
    memory.reserve(search.bytes(&view, queries.len()))?;
    let mut hits = tokio::task::block_in_place(|| search.run(&view, &queries))?;
    hits.iter_mut().for_each(|hits| drop(hits.drain(..offset.min(hits.len()))));
    let decimals = params::parse(&parameters, "round_decimal")?.unwrap_or(-1);
    Ok(SearchResults {
        results: Some(results(&meta, &view, &selection, &hits, topk, decimals, memory)?),
        collection_name: meta.name.clone(),
        session_ts: view.timestamp,
        ..Default::default()
    })
}

fn results(
    meta: &Collection,
    view: &View,
    selection: &Selection<'_>,
    hits: &[Vec<Hit>],
    topk: i64,
    decimals: i32,
    memory: &RequestMemory,
) -> Result<SearchResultData> {
    let parts: Vec<&Part> = view.parts().collect();
    let rows: Vec<Row> = hits.iter().flatten().map(|hit| hit.row).collect();
    let primary_key = meta.primary_key();
    let text = primary_key.max_length > 0;
    let keys = field_bytes(primary_key, &parts, &rows);
    reserve_answer(memory, &rows, keys + selection.bytes(&parts, &rows))?;
    let key = |row: &Row| KeyRef::of(parts[row.part], primary_key.id, row.row);
    let round = |score: f32| match decimals {
        0..=6 => (score * 10f32.powi(decimals)).round() / 10f32.powi(decimals),
        _ => score,
    };
    Ok(SearchResultData {
        num_queries: hits.len() as i64,
        top_k: topk,
        fields_data: selection.fetch(&parts, &rows),
        scores: hits.iter().flatten().map(|hit| round(hit.score)).collect(),
        ids: Some(ids(rows.iter().map(key), text)),
        topks: hits.iter().map(|hits| hits.len() as i64).collect(),
        output_fields: selection.names.clone(),
        all_search_count: rows.len() as i64,
        primary_field_name: primary_key.name.clone(),
        ..Default::default()
    })
}

/// Takes the memory of an answer before it is made: `rows` with fields of so many bytes, which lie there once as they
/// are made, and once as they are sent.
fn reserve_answer(memory: &RequestMemory, rows: &[Row], bytes: usize) -> Result<()> {
    if bytes > MAX_ANSWER_BYTES {
        return Err(Error::new(
            Code::QuotaExceeded,
            format!(
                "quota exceeded[reason=the answer would have {bytes} bytes, and a message has at most \
                 {MAX_ANSWER_BYTES}]; ask for fewer rows or fields, or use an iterator"
            ),
        ));
    }
    memory.reserve(2 * bytes + size_of_val(rows))
}

/// Rows by filter.
pub fn query(caller: &Caller, request: QueryRequest) -> Result<QueryResults> {
    let Caller { database, memory, .. } = caller;
    params::only_default_partition(&request.partition_names)?;
    params::refuse(&request.query_params, &REFUSED)?;
    let live = database.shard.collection(&request.collection_name)?;
    let meta = live.meta.load_full();
    let view = loaded_view(&live)?;
    let filter = Filter::parse(&request.expr, &meta, &request.expr_template_values)?;
    let growing = !params::flag(&request.query_params, "ignore_growing")?;
    let primary_key = meta.primary_key();
    let answer = |fields_data, output_fields| QueryResults {
        fields_data,
        output_fields,
        collection_name: meta.name.clone(),
        session_ts: view.timestamp,
        primary_field_name: primary_key.name.clone(),
        ..Default::default()
    };
    let limit: Option<i64> = params::parse(&request.query_params, "limit")?;
    if request.output_fields.iter().any(|name| name.trim().eq_ignore_ascii_case("count(*)")) {
        if request.output_fields.len() > 1 || limit.is_some_and(|limit| limit > 0) {
            return Err(Error::invalid("count(*) can't be combined with other output fields or a limit"));
        }
        let count = tokio::task::block_in_place(|| retrieve::count(&view, &filter, growing));
        return Ok(answer(vec![count_field(count)], vec!["count(*)".into()]));
    }
    if filter.is_all() && limit.is_none() {
        return Err(Error::invalid("empty expression should be used with limit"));
    }
    let mut selection = Selection::new(&meta, &request.output_fields)?;
    selection.add(primary_key);
    let offset = params::parse(&request.query_params, "offset")?;
    let page = limit.filter(|limit| *limit != -1).map(|limit| params::page(offset, limit, "limit")).transpose()?;
    let mut rows = tokio::task::block_in_place(|| retrieve::retrieve(&view, &filter, primary_key.id, growing));
    if let Some((offset, limit)) = page {
        rows = rows.into_iter().skip(offset).take(limit).collect();
    }
    let parts: Vec<&Part> = view.parts().collect();
    reserve_answer(memory, &rows, selection.bytes(&parts, &rows))?;
    Ok(answer(selection.fetch(&parts, &rows), selection.names.clone()))
}

/// Turns what was written so far into segments.
pub async fn flush(database: &Database, request: FlushRequest) -> Result<FlushResponse> {
    let mut response = FlushResponse { db_name: database.name.clone(), ..Default::default() };
    for name in request.collection_names {
        let live = database.shard.collection(&name)?;
        let segments = database.shard.flush_collection(&live).await?;
        let array = LongArray { data: segments.into_iter().map(|id| id as i64).collect() };
        let flushed_at = live.view().timestamp;
        response.coll_seg_i_ds.insert(name.clone(), array.clone());
        response.flush_coll_seg_i_ds.insert(name.clone(), array);
        response.coll_seal_times.insert(name.clone(), crate::clock::seconds(flushed_at) as i64);
        response.coll_flush_ts.insert(name, flushed_at);
    }
    Ok(response)
}

fn loaded_view(live: &LiveCollection) -> Result<Arc<View>> {
    // A release takes the segments out of the view first and changes the catalogue's entry then.
    let (view, meta) = (live.view(), live.meta.load());
    match meta.loaded && view.unloaded.is_empty() {
        true => Ok(view),
        false => Err(not_loaded(&meta.name)),
    }
}

/// Keys are timestamps: unused so far, and never used again.
fn new_keys(database: &Database, count: usize) -> i64 {
    let first = database.shard.clock.next();
    database.shard.clock.observe(first + count as u64);
    first as i64
}

fn mutation(keys: Keys, count: usize, timestamp: u64) -> MutationResult {
    let (int, text): (Vec<_>, Vec<_>) = match &keys {
        Keys::Int(keys) => (keys.iter().map(|key| KeyRef::Int(*key)).collect(), Vec::new()),
        Keys::Text(keys) => (Vec::new(), keys.iter().map(|key| KeyRef::Text(key.as_bytes())).collect()),
    };
    let is_text = matches!(keys, Keys::Text(_));
    MutationResult {
        i_ds: Some(ids(int.into_iter().chain(text), is_text)),
        succ_index: (0..count as u32).collect(),
        acknowledged: true,
        timestamp,
        ..Default::default()
    }
}

fn duplicate(keys: &Keys) -> Option<String> {
    match keys {
        Keys::Int(keys) => {
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_string())
        }
        Keys::Text(keys) => {
            let mut sorted: Vec<&String> = keys.iter().collect();
            sorted.sort_unstable();
            sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| format!("{:?}", pair[0]))
        }
    }
}

/// The parameters of a search, with those inside the JSON of `params` beside the others.
fn search_parameters(pairs: &[KeyValuePair]) -> Result<Vec<KeyValuePair>> {
    let mut all = pairs.to_vec();
    if let Some(nested) = params::get(pairs, "params").filter(|text| !text.is_empty()) {
        let nested: serde_json::Value =
            serde_json::from_str(nested).map_err(|_| Error::invalid("search params must be a JSON object"))?;
        for (key, value) in nested.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            all.push(KeyValuePair { key: key.clone(), value });
        }
    }
    Ok(all)
}

fn vector_field<'a>(meta: &'a Collection, name: Option<&str>) -> Result<&'a Field> {
    let mut vectors = meta.fields.iter().filter(|field| field.dim > 0);
    match name.filter(|name| !name.is_empty()) {
        Some(name) => vectors.find(|field| field.name == name).ok_or_else(|| {
            Error::new(Code::FieldNotFound, format!("failed to get field schema by name: {name} is no vector field"))
        }),
        None => match (vectors.next(), vectors.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Error::invalid("multiple anns_fields exist, please specify a anns_field in search_params")),
        },
    }
}

fn search_metric(meta: &Collection, field: &Field, asked: Option<&str>) -> Result<Metric> {
    let declared = meta.index_on(field.id).and_then(|index| Metric::parse(&index.metric));
    let asked = match asked.filter(|name| !name.is_empty()) {
        Some(name) => {
            Some(Metric::parse(name).ok_or_else(|| Error::invalid(format!("metric type {name} is not valid")))?)
        }
        None => None,
    };
    match (declared, asked) {
        (Some(declared), Some(asked)) if declared != asked => Err(Error::invalid(format!(
            "metric type not match: invalid parameter[expected={}][actual={}]",
            declared.name(),
            asked.name()
        ))),
        (declared, asked) => Ok(declared.or(asked).unwrap_or(Metric::Cosine)),
    }
}

fn expansion(parameters: &[KeyValuePair]) -> Result<usize> {
    match params::parse(parameters, "ef")?.unwrap_or(DEFAULT_EF) {
        ef if (1..=MAX_EF).contains(&ef) => Ok(ef),
        ef => Err(Error::invalid(format!("Out of range in json: param 'ef' ({ef}) should be in range [1, {MAX_EF}]"))),
    }
}

/// Refuses a number of vectors to search for that Milvus refuses.
fn check_count(count: usize) -> Result<()> {
    match (1..=params::MAX_RESULTS).contains(&count) {
        true => Ok(()),
        false => {
            Err(Error::invalid(format!("nq [{count}] is invalid, it should be in range [1, {}]", params::MAX_RESULTS)))
        }
    }
}

/// Vectors that a request brings along, one after the other.
fn sent_vectors(bytes: &[u8], field: &Field) -> Result<Vec<f32>> {
    let group = PlaceholderGroup::decode(bytes).map_err(|_| Error::invalid("the query vectors can't be decoded"))?;
    check_count(group.placeholders.iter().map(|placeholder| placeholder.values.len()).sum())?;
    let mut vectors = Vec::new();
    for placeholder in &group.placeholders {
        if placeholder.r#type != PlaceholderType::FloatVector as i32 {
            return Err(Error::invalid(format!(
                "vector type must be the same, field {} is of type FloatVector",
                field.name
            )));
        }
        for value in &placeholder.values {
            let (values, rest) = value.as_chunks::<4>();
            if values.len() != field.dim || !rest.is_empty() {
                return Err(Error::invalid(format!(
                    "vector dimension mismatch, expected vector size(byte) {}, actual {}",
                    4 * field.dim,
                    value.len()
                )));
            }
            vectors.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
        }
    }
    match vectors.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(Error::invalid(format!("value '{value}' in a query vector is not a number or infinity"))),
        None => Ok(vectors),
    }
}

/// Vectors of rows named by their primary keys.
fn stored_vectors<'a>(ids: &IDs, view: &'a View, meta: &Collection, field: &Field) -> Result<Vec<&'a [f32]>> {
    check_count(match &ids.id_field {
        Some(IdField::IntId(keys)) => keys.data.len(),
        Some(IdField::StrId(keys)) => keys.data.len(),
        None => 0,
    })?;
    let singles: Vec<Keys> = match (&ids.id_field, meta.primary_key().max_length > 0) {
        (Some(IdField::IntId(keys)), false) => keys.data.iter().map(|key| Keys::Int(vec![*key])).collect(),
        (Some(IdField::StrId(keys)), true) => keys.data.iter().map(|key| Keys::Text(vec![key.clone()])).collect(),
        _ => return Err(Error::invalid("the ids are of another type than the primary key")),
    };
    let vector = |key: &Keys| {
        let found = view.parts().find_map(|part| {
            let row = part.find(key).into_iter().find(|row| !part.deleted.contains(*row as usize))? as usize;
            match &part.rows.column(field.id)?.values {
                Values::FloatVector { dim, values } => Some(&values[row * dim..(row + 1) * dim]),
                _ => None,
            }
        });
        found.ok_or_else(|| Error::invalid("a row named by its id does not exist"))
    };
    singles.iter().map(vector).collect()
}

fn missing(what: &str) -> Error {
    Error::new(Code::MissingParameter, format!("the request lacks {what}"))
}

impl From<FilterError> for Error {
    fn from(error: FilterError) -> Self {
        Self::invalid(format!("failed to create query plan: cannot parse expression: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::proto::storage::Segment;

    fn live(loaded: bool, unloaded: Vec<Segment>) -> LiveCollection {
        let meta = Collection {
            id: 1,
            name: "c".into(),
            description: String::new(),
            fields: Vec::new(),
            indexes: Vec::new(),
            loaded,
            created: 0,
            consistency_level: 0,
            properties: HashMap::new(),
        };
        LiveCollection::new(meta, View { unloaded, ..View::default() }, Vec::new())
    }

    #[test]
    fn a_reader_never_sees_a_part_of_a_collection_that_is_being_released() {
        let refused = |loaded, unloaded| loaded_view(&live(loaded, unloaded)).map(drop).map_err(|error| error.code);
        assert_eq!(refused(true, Vec::new()), Ok(()));
        assert_eq!(refused(false, Vec::new()), Err(Code::CollectionNotLoaded));
        assert_eq!(refused(true, vec![Segment::default()]), Err(Code::CollectionNotLoaded));
    }
}
