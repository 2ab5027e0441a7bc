//! The gRPC service: every call passes the gate, is authenticated, finds its database, and answers with a status inside
//! the message. gRPC errors are left to the transport: clients would retry them for minutes.
//!
//! Gate and password were asked before the body was read (see [`admission`](super::admission)), and are asked again,
//! since a body takes its time.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response};

use crate::budget::{ALLOWANCE, RequestMemory};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::gate::{Admitted, Database};
use crate::proto::common::Status;
use crate::proto::milvus::milvus_service_server::MilvusService;
use crate::proto::milvus::*;
use crate::server::admission::Refusal;
use crate::server::writers::Writers;
use crate::server::{collections, data, indexes, params};

type Answer<T> = std::result::Result<Response<T>, tonic::Status>;

/// Milvus' version that the API follows; clients choose features by it.
const API_VERSION: &str = "2.6.0";

/// An answer that carries a status.
trait WithStatus: Default {
    fn set_status(&mut self, status: Status);
}

impl WithStatus for Status {
    fn set_status(&mut self, status: Status) {
        *self = status;
    }
}

macro_rules! with_status {
    ($($answer:ty),* $(,)?) => {
        $(impl WithStatus for $answer {
            fn set_status(&mut self, status: Status) {
                self.status = Some(status);
            }
        })*
    };
}

with_status!(
    ConnectResponse,
    GetVersionResponse,
    CheckHealthResponse,
    AllocTimestampResponse,
    BoolResponse,
    DescribeCollectionResponse,
    ShowCollectionsResponse,
    GetCollectionStatisticsResponse,
    GetLoadingProgressResponse,
    GetLoadStateResponse,
    ShowPartitionsResponse,
    DescribeIndexResponse,
    MutationResult,
    SearchResults,
    QueryResults,
    FlushResponse,
    GetFlushStateResponse,
    ListDatabasesResponse,
    DescribeDatabaseResponse,
    ListCredUsersResponse,
);

/// The service.
#[derive(Debug, Clone)]
pub struct Milvus {
    engine: Arc<Engine>,
    writers: Arc<Writers>,
}

/// Who calls, on which database, and what the call works with.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Caller {
    pub user: String,
    pub database: Arc<Database>,
    pub writers: Arc<Writers>,
    /// What it takes of the memory budget, beside rows that stay.
    pub memory: RequestMemory,
}

impl Milvus {
    /// The service of `engine`.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, writers: Arc::default() }
    }

    /// Serves one call on the database that the request names.
    async fn serve<Q, A, F>(
        &self,
        call: &'static str,
        request: Request<Q>,
        serve: impl FnOnce(Caller, Q) -> F,
    ) -> Answer<A>
    where
        Q: NamesDatabase,
        A: WithStatus,
        F: Future<Output = Result<A>>,
    {
        let started = Instant::now();
        let (metadata, extensions, message) = request.into_parts();
        let header = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let served = async {
            not_refused(&extensions)?;
            let admitted = self.engine.gate.admit()?;
            let user = admitted.unlocked().users.authenticate(header("authorization")).await?;
            let named = message.database().to_owned();
            let named = if named.is_empty() { header("dbname").unwrap_or_default().to_owned() } else { named };
            let database = admitted.unlocked().database(&named)?;
            let memory = extensions.get::<RequestMemory>().cloned();
            let memory = memory.unwrap_or_else(|| RequestMemory::new(admitted.unlocked().budget.clone(), ALLOWANCE));
            let caller = Caller { user, database, writers: self.writers.clone(), memory };
            let answer = serve(caller, message).await?;
            admitted.confirm()?;
            Ok(answer)
        };
        let served = served.await;
        let (code, took) = (served.as_ref().err().map(|error: &Error| error.code), started.elapsed());
        self.engine.metrics.call(call, code.map_or(0, |code| code as i32), took);
        self.engine.traffic.record(call, code, took, Instant::now());
        Ok(answer(served))
    }

    fn admitted(&self) -> Result<Admitted<'_>> {
        self.engine.gate.admit()
    }
}

/// What was decided before the body was read.
fn not_refused(extensions: &http::Extensions) -> Result<()> {
    match extensions.get() {
        Some(Refusal(error)) => Err(error.clone()),
        None => Ok(()),
    }
}

fn answer<A: WithStatus>(served: Result<A>) -> Response<A> {
    let (mut answer, status) = match served {
        Ok(answer) => (answer, Status::default()),
        Err(error) => (A::default(), error.status()),
    };
    answer.set_status(status);
    Response::new(answer)
}

/// Requests that may name a database.
trait NamesDatabase {
    fn database(&self) -> &str {
        ""
    }
}

macro_rules! names_database {
    ($($request:ty),* $(,)?) => {
        $(impl NamesDatabase for $request {
            fn database(&self) -> &str {
                &self.db_name
            }
        })*
    };
}

names_database!(
    CreateCollectionRequest,
    DropCollectionRequest,
    HasCollectionRequest,
    DescribeCollectionRequest,
    ShowCollectionsRequest,
    GetCollectionStatisticsRequest,
    LoadCollectionRequest,
    ReleaseCollectionRequest,
    GetLoadingProgressRequest,
    GetLoadStateRequest,
    ShowPartitionsRequest,
    HasPartitionRequest,
    CreateIndexRequest,
    DescribeIndexRequest,
    DropIndexRequest,
    InsertRequest,
    UpsertRequest,
    DeleteRequest,
    SearchRequest,
    QueryRequest,
    FlushRequest,
    GetFlushStateRequest,
);
impl NamesDatabase for AllocTimestampRequest {}
impl NamesDatabase for ListDatabasesRequest {}
impl NamesDatabase for UpdateCredentialRequest {}
impl NamesDatabase for ListCredUsersRequest {}
impl NamesDatabase for DescribeDatabaseRequest {
    fn database(&self) -> &str {
        &self.db_name
    }
}

#[tonic::async_trait]
impl MilvusService for Milvus {
    /// The handshake of the SDK. A locked engine answers it, so that the calls after it get their code.
    async fn connect(&self, request: Request<ConnectRequest>) -> Answer<ConnectResponse> {
        let served = async {
            not_refused(request.extensions())?;
            if let Ok(admitted) = self.admitted() {
                let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
                admitted.unlocked().users.authenticate(authorization).await?;
            }
            let server_info = crate::proto::common::ServerInfo {
                build_tags: API_VERSION.into(),
                deploy_mode: "STANDALONE".into(),
                ..Default::default()
            };
            let identifier = self.engine.next_client();
            Ok(ConnectResponse { server_info: Some(server_info), identifier, ..Default::default() })
        };
        Ok(answer(served.await))
    }

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Answer<GetVersionResponse> {
        let version = || GetVersionResponse { version: API_VERSION.into(), ..Default::default() };
        Ok(answer(not_refused(request.extensions()).map(|()| version())))
    }

    async fn check_health(&self, request: Request<CheckHealthRequest>) -> Answer<CheckHealthResponse> {
        let health = || {
            let locked = self.admitted().err();
            let reasons = locked.iter().map(|error| error.message.clone()).collect();
            CheckHealthResponse { is_healthy: locked.is_none(), reasons, ..Default::default() }
        };
        Ok(answer(not_refused(request.extensions()).map(|()| health())))
    }

    async fn alloc_timestamp(&self, request: Request<AllocTimestampRequest>) -> Answer<AllocTimestampResponse> {
        self.serve("AllocTimestamp", request, |caller, _| async move {
            Ok(AllocTimestampResponse { timestamp: caller.database.shard.clock.next(), ..Default::default() })
        })
        .await
    }

    async fn create_collection(&self, request: Request<CreateCollectionRequest>) -> Answer<Status> {
        self.serve("CreateCollection", request, |caller, request| async move {
            collections::create(&caller.database, request).await.map(|()| Status::default())
        })
        .await
    }

    async fn drop_collection(&self, request: Request<DropCollectionRequest>) -> Answer<Status> {
        self.serve("DropCollection", request, |caller, request| async move {
            caller.database.shard.drop_collection(&request.collection_name).await.map(|()| Status::default())
        })
        .await
    }

    async fn has_collection(&self, request: Request<HasCollectionRequest>) -> Answer<BoolResponse> {
        self.serve("HasCollection", request, |caller, request| async move {
            let value = caller.database.shard.collection(&request.collection_name).is_ok();
            Ok(BoolResponse { value, ..Default::default() })
        })
        .await
    }

    async fn describe_collection(
        &self,
        request: Request<DescribeCollectionRequest>,
    ) -> Answer<DescribeCollectionResponse> {
        self.serve("DescribeCollection", request, |caller, request| async move {
            collections::describe(&caller.database, &request)
        })
        .await
    }

    async fn show_collections(&self, request: Request<ShowCollectionsRequest>) -> Answer<ShowCollectionsResponse> {
        self.serve("ShowCollections", request, |caller, request| async move {
            Ok(collections::show(&caller.database, &request))
        })
        .await
    }

    async fn get_collection_statistics(
        &self,
        request: Request<GetCollectionStatisticsRequest>,
    ) -> Answer<GetCollectionStatisticsResponse> {
        self.serve("GetCollectionStatistics", request, |caller, request| async move {
            collections::statistics(&caller.database, &request.collection_name)
        })
        .await
    }

    async fn load_collection(&self, request: Request<LoadCollectionRequest>) -> Answer<Status> {
        self.serve("LoadCollection", request, |caller, request| async move {
            let live = caller.database.shard.collection(&request.collection_name)?;
            indexes::required_for_load(&live.meta.load())?;
            caller.database.shard.load_collection(&live).await.map(|()| Status::default())
        })
        .await
    }

    async fn release_collection(&self, request: Request<ReleaseCollectionRequest>) -> Answer<Status> {
        self.serve("ReleaseCollection", request, |caller, request| async move {
            let live = caller.database.shard.collection(&request.collection_name)?;
            caller.database.shard.release_collection(&live).await.map(|()| Status::default())
        })
        .await
    }

    async fn get_loading_progress(
        &self,
        request: Request<GetLoadingProgressRequest>,
    ) -> Answer<GetLoadingProgressResponse> {
        self.serve("GetLoadingProgress", request, |caller, request| async move {
            collections::progress(&caller.database, &request.collection_name)
        })
        .await
    }

    async fn get_load_state(&self, request: Request<GetLoadStateRequest>) -> Answer<GetLoadStateResponse> {
        self.serve("GetLoadState", request, |caller, request| async move {
            collections::load_state(&caller.database, &request.collection_name)
        })
        .await
    }

    async fn show_partitions(&self, request: Request<ShowPartitionsRequest>) -> Answer<ShowPartitionsResponse> {
        self.serve("ShowPartitions", request, |caller, request| async move {
            collections::partitions(&caller.database, &request.collection_name)
        })
        .await
    }

    async fn has_partition(&self, request: Request<HasPartitionRequest>) -> Answer<BoolResponse> {
        self.serve("HasPartition", request, |caller, request| async move {
            caller.database.shard.collection(&request.collection_name)?;
            let value = params::only_default_partition([&request.partition_name]).is_ok();
            Ok(BoolResponse { value, ..Default::default() })
        })
        .await
    }

    async fn create_index(&self, request: Request<CreateIndexRequest>) -> Answer<Status> {
        self.serve("CreateIndex", request, |caller, request| async move {
            indexes::create(&caller.database, request).await.map(|()| Status::default())
        })
        .await
    }

    async fn describe_index(&self, request: Request<DescribeIndexRequest>) -> Answer<DescribeIndexResponse> {
        self.serve(
            "DescribeIndex",
            request,
            |caller, request| async move { indexes::describe(&caller.database, &request) },
        )
        .await
    }

    async fn drop_index(&self, request: Request<DropIndexRequest>) -> Answer<Status> {
        self.serve("DropIndex", request, |caller, request| async move {
            indexes::drop(&caller.database, &request).await.map(|()| Status::default())
        })
        .await
    }

    async fn insert(&self, request: Request<InsertRequest>) -> Answer<MutationResult> {
        self.serve("Insert", request, |caller, request| async move { data::insert(&caller, request).await }).await
    }

    async fn upsert(&self, request: Request<UpsertRequest>) -> Answer<MutationResult> {
        self.serve("Upsert", request, |caller, request| async move { data::upsert(&caller, request).await }).await
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<MutationResult> {
        self.serve("Delete", request, |caller, request| async move { data::delete(&caller, request).await }).await
    }

    async fn search(&self, request: Request<SearchRequest>) -> Answer<SearchResults> {
        self.serve("Search", request, |caller, request| async move { data::search(&caller, request) }).await
    }

    async fn query(&self, request: Request<QueryRequest>) -> Answer<QueryResults> {
        self.serve("Query", request, |caller, request| async move { data::query(&caller, request) }).await
    }

    async fn flush(&self, request: Request<FlushRequest>) -> Answer<FlushResponse> {
        self.serve("Flush", request, |caller, request| async move { data::flush(&caller.database, request).await })
            .await
    }

    /// A flush returns when it is done, so what was asked for is always flushed.
    async fn get_flush_state(&self, request: Request<GetFlushStateRequest>) -> Answer<GetFlushStateResponse> {
        self.serve("GetFlushState", request, |_, _| async move {
            Ok(GetFlushStateResponse { flushed: true, ..Default::default() })
        })
        .await
    }

    async fn list_databases(&self, request: Request<ListDatabasesRequest>) -> Answer<ListDatabasesResponse> {
        let unlocked = self.engine.gate.unlocked();
        self.serve("ListDatabases", request, |_, _| async move {
            let unlocked = unlocked.ok_or_else(Error::key_revoked)?;
            let databases = &unlocked.databases;
            Ok(ListDatabasesResponse {
                db_names: databases.iter().map(|database| database.name.clone()).collect(),
                created_timestamp: databases.iter().map(|database| database.created).collect(),
                db_ids: (1..=databases.len() as i64).collect(),
                ..Default::default()
            })
        })
        .await
    }

    async fn describe_database(&self, request: Request<DescribeDatabaseRequest>) -> Answer<DescribeDatabaseResponse> {
        self.serve("DescribeDatabase", request, |caller, _| async move {
            let database = caller.database;
            let (db_name, created_timestamp) = (database.name.clone(), database.created);
            Ok(DescribeDatabaseResponse { db_name, db_id: 1, created_timestamp, ..Default::default() })
        })
        .await
    }

    async fn update_credential(&self, request: Request<UpdateCredentialRequest>) -> Answer<Status> {
        let unlocked = self.engine.gate.unlocked();
        self.serve("UpdateCredential", request, |caller, request| async move {
            let unlocked = unlocked.ok_or_else(Error::key_revoked)?;
            if caller.user != request.username {
                return Err(Error::new(crate::error::Code::NotPermitted, "a user can change only their own password"));
            }
            unlocked.users.change_password(&request.username, &request.old_password, &request.new_password).await?;
            Ok(Status::default())
        })
        .await
    }

    async fn list_cred_users(&self, request: Request<ListCredUsersRequest>) -> Answer<ListCredUsersResponse> {
        let unlocked = self.engine.gate.unlocked();
        self.serve("ListCredUsers", request, |_, _| async move {
            let unlocked = unlocked.ok_or_else(Error::key_revoked)?;
            Ok(ListCredUsersResponse { usernames: unlocked.users.names().await?, ..Default::default() })
        })
        .await
    }
}
