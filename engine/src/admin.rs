//! The admin API (mutual TLS, the operator only) and the health and metrics endpoints (TLS).

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::engine::{Engine, State};
use crate::tls::ServerTls;

/// What the operator asks for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    format: Format,
    cluster_id: String,
    store_id: Option<String>,
    boot_id: String,
    state: String,
    key: Key,
    zones: Vec<Zone>,
    shards: Vec<Shard>,
    serving_certificate: Certificate,
    serving_authorities: Vec<String>,
    internal_certificate: Certificate,
    internal_authorities: Vec<String>,
    self_test: Option<SelfTest>,
    traffic: Traffic,
    isolation: Option<Isolation>,
}

/// File formats: the newest that the release knows, and the highest that a shard has.
#[derive(Debug, Serialize)]
struct Format {
    newest: u32,
    committed: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    state: &'static str,
    message: String,
    last_success: Option<String>,
    last_check: Option<String>,
    endpoint_override: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Zone {
    id: String,
    purpose: &'static str,
    version: u32,
    state: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shard {
    database_id: String,
    slot: u32,
    epoch: u64,
    high_water: u64,
}

#[derive(Debug, Serialize)]
struct Certificate {
    sha256: String,
}

#[derive(Debug, Serialize)]
struct SelfTest {
    passed: bool,
    message: String,
    at: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Traffic {
    requests: u64,
    failures: u64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Debug, Serialize)]
struct Isolation {
    required: bool,
    withholds: bool,
    reached: Vec<String>,
    unreached: Vec<String>,
    at: String,
}

/// The admin API of `engine`, whose clients see the certificate of `serving`, and the operator that of `internal`.
pub fn admin(engine: Arc<Engine>, serving: Arc<ServerTls>, internal: Arc<ServerTls>) -> Router {
    let status = move || {
        let status = Json(status(&engine, &serving, &internal));
        async { status }
    };
    Router::new().route("/v1/status", get(status))
}

/// Liveness, readiness and metrics. Ready means that the engine answers, whatever the state of the key: a client of a
/// cluster whose key is refused gets code 2500 instead of a dead port.
pub fn health(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .with_state(engine)
}

async fn metrics(Extract(engine): Extract<Arc<Engine>>) -> Result<String, StatusCode> {
    let serving = engine.state() == State::Serving;
    engine.metrics.text(serving, engine.memory()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn status(engine: &Engine, serving: &ServerTls, internal: &ServerTls) -> Status {
    let key = engine.key.borrow().clone();
    let traffic = engine.traffic.report(Instant::now());
    let unlocked = engine.gate.unlocked();
    let zones = unlocked.iter().flat_map(|unlocked| unlocked.keyring.zones());
    let databases = unlocked.iter().flat_map(|unlocked| unlocked.databases.clone());
    Status {
        version: engine.version,
        format: Format { newest: engine.formats.newest(), committed: engine.formats.highest() },
        cluster_id: engine.config.cluster_id.clone(),
        store_id: unlocked.as_ref().map(|unlocked| unlocked.keyring.store_id().to_string()),
        boot_id: engine.boot_id.to_string(),
        state: format!("{:?}", engine.state()),
        key: Key {
            state: key.state.as_str(),
            last_success: key.last_success.map(rfc3339),
            last_check: key.last_check.map(rfc3339),
            endpoint_override: engine.config.kms.endpoint_override(),
            message: key.message,
        },
        zones: zones
            .map(|zone| Zone {
                id: zone.id.to_string(),
                purpose: zone.purpose.as_str(),
                version: zone.version,
                state: zone.state.as_str(),
            })
            .collect(),
        shards: databases
            .map(|database| Shard {
                database_id: database.zone.to_string(),
                slot: 0,
                epoch: database.shard.epoch(),
                high_water: database.shard.clock.last(),
            })
            .collect(),
        serving_certificate: Certificate { sha256: serving.leaf_sha256() },
        serving_authorities: serving.authorities_sha256(),
        internal_certificate: Certificate { sha256: internal.leaf_sha256() },
        internal_authorities: internal.authorities_sha256(),
        self_test: unlocked.as_ref().map(|unlocked| SelfTest {
            passed: unlocked.self_test.passed,
            message: unlocked.self_test.message.clone(),
            at: rfc3339(unlocked.self_test.at),
        }),
        traffic: Traffic {
            requests: traffic.requests,
            failures: traffic.failures,
            p50_ms: traffic.p50_ms,
            p99_ms: traffic.p99_ms,
        },
        isolation: engine.isolation.load().as_ref().map(|report| Isolation {
            required: report.required,
            withholds: report.forbids_unlocking(),
            reached: report.reached(),
            unreached: report.unreached(),
            at: rfc3339(report.at),
        }),
    }
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}
