//! Calls on collections.

use crate::clock;
use crate::error::Result;
use crate::gate::Database;
use crate::proto::common::{KeyValuePair, LoadState};
use crate::proto::milvus::{
    CreateCollectionRequest, DescribeCollectionRequest, DescribeCollectionResponse, GetCollectionStatisticsResponse,
    GetLoadStateResponse, GetLoadingProgressResponse, ShowCollectionsRequest, ShowCollectionsResponse,
    ShowPartitionsResponse,
};
use crate::server::schema;

/// Creates a collection.
pub async fn create(database: &Database, request: CreateCollectionRequest) -> Result<()> {
    database.shard.create_collection(schema::collection(&request)?).await
}

/// Describes a collection, found by name or by id.
pub fn describe(database: &Database, request: &DescribeCollectionRequest) -> Result<DescribeCollectionResponse> {
    let live = match request.collection_name.is_empty() {
        true => database.shard.collection_by_id(request.collection_id)?,
        false => database.shard.collection(&request.collection_name)?,
    };
    let meta = live.meta.load();
    Ok(DescribeCollectionResponse {
        schema: Some(schema::described(&meta)),
        collection_id: meta.id,
        created_timestamp: meta.created,
        created_utc_timestamp: clock::seconds(meta.created),
        shards_num: 1,
        consistency_level: meta.consistency_level,
        collection_name: meta.name.clone(),
        properties: meta
            .properties
            .iter()
            .map(|(key, value)| KeyValuePair { key: key.clone(), value: value.clone() })
            .collect(),
        db_name: database.name.clone(),
        num_partitions: 1,
        update_timestamp: meta.created,
        update_timestamp_str: meta.created.to_string(),
        ..Default::default()
    })
}

/// Lists collections.
pub fn show(database: &Database, request: &ShowCollectionsRequest) -> ShowCollectionsResponse {
    let mut shown = ShowCollectionsResponse::default();
    for live in database.shard.collections() {
        let meta = live.meta.load();
        let wanted = request.collection_names.is_empty() || request.collection_names.contains(&meta.name);
        if wanted && (request.r#type == 0 || meta.loaded) {
            shown.collection_names.push(meta.name.clone());
            shown.collection_ids.push(meta.id);
            shown.created_timestamps.push(meta.created);
            shown.created_utc_timestamps.push(clock::seconds(meta.created));
            shown.in_memory_percentages.push(if meta.loaded { 100 } else { 0 });
            shown.query_service_available.push(meta.loaded);
            shown.shards_num.push(1);
        }
    }
    shown
}

/// The row count of a collection.
pub fn statistics(database: &Database, name: &str) -> Result<GetCollectionStatisticsResponse> {
    let rows = database.shard.collection(name)?.view().row_count();
    let stats = vec![KeyValuePair { key: "row_count".into(), value: rows.to_string() }];
    Ok(GetCollectionStatisticsResponse { stats, ..Default::default() })
}

/// How far a collection is loaded.
pub fn progress(database: &Database, name: &str) -> Result<GetLoadingProgressResponse> {
    let live = database.shard.collection(name)?;
    if !live.meta.load().loaded {
        return Err(crate::storage::maintenance::not_loaded(name));
    }
    Ok(GetLoadingProgressResponse { progress: 100, refresh_progress: 100, ..Default::default() })
}

/// Whether a collection is loaded.
pub fn load_state(database: &Database, name: &str) -> Result<GetLoadStateResponse> {
    let state = match database.shard.collection(name) {
        Ok(live) if live.meta.load().loaded => LoadState::Loaded,
        Ok(_) => LoadState::NotLoad,
        Err(_) => LoadState::NotExist,
    };
    Ok(GetLoadStateResponse { state: state as i32, ..Default::default() })
}

/// The partitions of a collection: the default one.
pub fn partitions(database: &Database, name: &str) -> Result<ShowPartitionsResponse> {
    let meta = database.shard.collection(name)?.meta.load_full();
    Ok(ShowPartitionsResponse {
        partition_names: vec!["_default".into()],
        partition_i_ds: vec![meta.id + 1],
        created_timestamps: vec![meta.created],
        created_utc_timestamps: vec![clock::seconds(meta.created)],
        in_memory_percentages: vec![if meta.loaded { 100 } else { 0 }],
        ..Default::default()
    })
}
