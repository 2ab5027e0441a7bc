//! What the admin API tells the operator: version, file format, self-test, traffic, and whether the network keeps its
//! promises.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use vectorkeep_engine::admin::admin;
use vectorkeep_engine::config::Config;
use vectorkeep_engine::dev;
use vectorkeep_engine::engine::{Engine, State};
use vectorkeep_engine::error::Code;
use vectorkeep_engine::proto::milvus::milvus_service_server::MilvusService;
use vectorkeep_engine::proto::milvus::{QueryRequest, ShowCollectionsRequest};
use vectorkeep_engine::release::Release;
use vectorkeep_engine::server::milvus::Milvus;
use vectorkeep_engine::tls::{Clients, ServerTls};

const PATIENCE: Duration = Duration::from_secs(120);

/// A configuration as a cluster has it, with the keys and certificates of a development engine; `section` is added.
fn config(folder: &Path, section: &str) -> Config {
    dev::prepare(folder, "127.0.0.1:19530".parse().unwrap(), 512).unwrap();
    let text = format!(
        r#"
        cluster_id = "test"
        data_dir = "{folder}"
        memory_budget_bytes = 536870912
        [listen]
        client = "127.0.0.1:0"
        health = "127.0.0.1:0"
        admin = "127.0.0.1:0"
        [tls]
        serving_dir = "{folder}/dev/serving"
        internal_dir = "{folder}/dev/internal"
        operator_uri = "vectorkeep://test/operator"
        [auth]
        root_password_file = "{folder}/dev/root-password"
        [kms]
        check_interval_seconds = 1
        outage_grace_seconds = 600
        [kms.local]
        key_file = "{folder}/dev/key"
        {section}
        "#,
        folder = folder.display()
    );
    let file = folder.join("engine.toml");
    std::fs::write(&file, text).unwrap();
    Config::read(&file).unwrap()
}

fn isolation(listener: &str, required: bool) -> String {
    format!("[isolation]\nforbidden = [\"{listener}\"]\nrequired = {required}\nsettling_seconds = 0\n")
}

/// Runs the engine for as long as `test` takes.
async fn running(engine: &Arc<Engine>, test: impl Future<Output = ()>) {
    tokio::select! {
        reason = engine.run() => unreachable!("the engine gave up: {reason}"),
        () = test => {}
    }
    engine.close().await;
}

async fn until(reached: impl Fn() -> bool) {
    let waited = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap();
}

async fn serving(engine: &Engine) {
    until(|| engine.state() == State::Serving).await;
}

/// The answer of the admin API.
async fn report(engine: &Arc<Engine>) -> Value {
    let certificate = ServerTls::load(&engine.config.tls.serving_dir, Clients::Any).unwrap();
    let request = Request::get("/v1/status").body(Body::empty()).unwrap();
    let answer = admin(engine.clone(), certificate.clone(), certificate).oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

/// A call of the root user.
fn call<T>(engine: &Engine, message: T) -> tonic::Request<T> {
    let password = std::fs::read_to_string(&engine.config.auth.root_password_file).unwrap();
    let credentials = STANDARD.encode(format!("root:{}", password.trim()));
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", credentials.parse().unwrap());
    request
}

/// Files of segments, wherever they lie below `folder`.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.components().any(|part| part.as_os_str() == "segments") {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlocked_engine_tells_that_it_passed_its_self_test_and_a_locked_one_tells_none() {
    let folder = tempfile::tempdir().unwrap();
    for start in ["first", "second"] {
        let engine = Engine::new(config(folder.path(), ""), "9.8.7");
        let locked = report(&engine).await;
        assert_eq!(locked["version"], "9.8.7");
        assert_eq!((&locked["selfTest"], &locked["isolation"]), (&Value::Null, &Value::Null));
        running(&engine, async {
            serving(&engine).await;
            let unlocked = report(&engine).await;
            let test = &unlocked["selfTest"];
            assert_eq!((&test["passed"], &test["message"]), (&json!(true), &json!("")), "{start} start");
            assert!(test["at"].as_str().unwrap().ends_with('Z'));
            assert_eq!(unlocked["isolation"], Value::Null, "nothing is configured, so nothing is tried");
        })
        .await;
        assert_eq!(segments(folder.path()).len(), 1, "{start} start");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_self_test_is_reported_and_the_engine_serves_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(config(folder.path(), ""), "9.8.7");
    running(&engine, serving(&engine)).await;
    let segment = segments(folder.path()).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let engine = Engine::new(config(folder.path(), ""), "9.8.7");
    running(&engine, async {
        serving(&engine).await;
        let report = report(&engine).await;
        assert_eq!(report["selfTest"]["passed"], false);
        assert!(report["selfTest"]["message"].as_str().unwrap().contains("integrity check"), "{report}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_counted_and_see_nothing_of_the_self_test() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(config(folder.path(), ""), "9.8.7");
    let milvus = Milvus::new(engine.clone());
    let none = json!({"requests": 0, "failures": 0, "p50Ms": 0.0, "p99Ms": 0.0});
    assert_eq!(report(&engine).await["traffic"], none);
    running(&engine, async {
        serving(&engine).await;
        let listed = milvus.show_collections(call(&engine, ShowCollectionsRequest::default())).await.unwrap();
        let listed = listed.into_inner();
        assert_eq!((listed.status.unwrap().code, listed.collection_names), (0, Vec::<String>::new()));
        assert_eq!(report(&engine).await["traffic"], none, "only requests for data count");
        let by_name =
            QueryRequest { collection_name: "self-test".into(), expr: "id == 1".into(), ..Default::default() };
        let answer = milvus.query(call(&engine, by_name)).await.unwrap().into_inner();
        assert_eq!(answer.status.unwrap().code, Code::CollectionNotFound as i32);
        let counted = json!({"requests": 1, "failures": 0, "p50Ms": 0.0, "p99Ms": 0.0});
        assert_eq!(report(&engine).await["traffic"], counted, "the client's fault");
        let unlocked = engine.gate.unlocked().unwrap();
        assert!(unlocked.databases.iter().all(|database| database.shard.collections().is_empty()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_reaches_what_it_must_not_asks_for_no_key_until_it_no_longer_does() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let engine = Engine::new(config(folder.path(), &isolation(&address, true)), "9.8.7");
    running(&engine, async {
        let refusal = || engine.gate.admit().map(drop).map_err(|error| error.code);
        until(|| refusal() == Err(Code::NotReady)).await;
        let locked = report(&engine).await;
        assert_eq!((&locked["state"], &locked["key"]["lastCheck"]), (&json!("Locked"), &Value::Null));
        assert_eq!(locked["isolation"]["required"], true);
        assert_eq!(locked["isolation"]["reached"], json!([address]));
        assert_eq!(locked["isolation"]["unreached"], json!([]));
        assert!(!folder.path().join("store").exists(), "no key was asked for");
        drop(listener);
        serving(&engine).await;
        let unlocked = report(&engine).await;
        assert_eq!(unlocked["isolation"]["reached"], json!([]));
        assert_eq!(unlocked["isolation"]["unreached"], json!([address]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_takes_seconds_to_enforce_its_policies_is_no_finding_and_no_key_is_asked_for_meanwhile() {
    for required in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listener.set_nonblocking(true).unwrap();
        let settling = isolation(&address, required).replace("settling_seconds = 0", "settling_seconds = 600");
        let engine = Engine::new(config(folder.path(), &settling), "9.8.7");
        running(&engine, async {
            until(|| listener.accept().is_ok()).await;
            until(|| listener.accept().is_ok()).await;
            assert_eq!(report(&engine).await["isolation"], Value::Null, "it tries again and says nothing yet");
            if required {
                assert_eq!(engine.gate.admit().map(drop).map_err(|error| error.code), Err(Code::NotReady));
                assert!(!folder.path().join("store").exists(), "no key was asked for");
            }
            drop(listener);
            serving(&engine).await;
            until(|| engine.isolation.load().is_some()).await;
            let proven = report(&engine).await;
            assert_eq!(proven["isolation"]["reached"], json!([]));
            assert_eq!(proven["isolation"]["unreached"], json!([address]));
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_names_while_the_engine_runs_takes_the_place_of_what_is_configured_and_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (open, configured) = (listener.local_addr().unwrap(), "127.0.0.1:1");
    let targets = json!({"targets": [
        {"name": "other-cluster-1:9092", "address": open.to_string()},
        {"name": "kubernetes-api", "address": "127.0.0.1:2"},
    ]});
    std::fs::write(folder.path().join("isolation.json"), targets.to_string()).unwrap();
    let engine = Engine::new(config(folder.path(), &isolation(configured, true)), "9.8.7");
    running(&engine, async {
        let refusal = || engine.gate.admit().map(drop).map_err(|error| error.code);
        until(|| refusal() == Err(Code::NotReady)).await;
        let locked = report(&engine).await;
        assert_eq!(locked["isolation"]["reached"], json!(["other-cluster-1:9092"]));
        assert_eq!(locked["isolation"]["unreached"], json!(["kubernetes-api"]));
        assert!(!locked.to_string().contains(&open.to_string()), "whose engine it is, is nobody's business");
        // What can't be understood counts as missing.
        std::fs::write(folder.path().join("isolation.json"), "{").unwrap();
        serving(&engine).await;
        assert_eq!(report(&engine).await["isolation"]["unreached"], json!([configured]));
    })
    .await;
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_isolation_is_not_required_a_reached_listener_is_only_reported() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let engine = Engine::new(config(folder.path(), &isolation(&address, false)), "9.8.7");
    running(&engine, async {
        serving(&engine).await;
        until(|| engine.isolation.load().is_some()).await;
        let unlocked = report(&engine).await;
        assert_eq!(unlocked["isolation"]["required"], false);
        assert_eq!(unlocked["isolation"]["reached"], json!([address]));
        assert!(unlocked["isolation"]["at"].as_str().unwrap().ends_with('Z'));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_taken_when_the_operator_commits_to_it_and_then_the_release_before_stays_locked() {
    const NEXT: Release = Release { version: "9.8.8", format: 2 };
    let folder = tempfile::tempdir().unwrap();
    let commit = |format: &str| std::fs::write(folder.path().join("format"), format).unwrap();
    commit("no number");
    let engine = Engine::new(config(folder.path(), ""), NEXT);
    running(&engine, async {
        assert_eq!(report(&engine).await["format"], json!({"newest": 2, "committed": null}));
        serving(&engine).await;
        assert_eq!(report(&engine).await["format"], json!({"newest": 2, "committed": 1}));
        commit("3\n");
        let shards: Vec<_> = engine.gate.unlocked().unwrap().shards().cloned().collect();
        assert!(shards.len() > 1, "the system shard and a database's");
        until(|| shards.iter().all(|shard| shard.format() == 2)).await;
        assert_eq!(report(&engine).await["format"], json!({"newest": 2, "committed": 2}));
    })
    .await;
    let before = Engine::new(config(folder.path(), ""), "9.8.7");
    let reason = before.run().await.to_string();
    assert!(reason.contains("half-way"), "{reason}");
    let refusal = before.gate.admit().map(drop).unwrap_err();
    assert!(refusal.code == Code::NotReady && refusal.message.contains("file format 2"), "{refusal}");
    assert_eq!(report(&before).await["format"], json!({"newest": 1, "committed": 2}));
    commit("1");
    let again = Engine::new(config(folder.path(), ""), NEXT);
    running(&again, async {
        serving(&again).await;
        assert_eq!(report(&again).await["format"], json!({"newest": 2, "committed": 2}), "never lowered");
    })
    .await;
}
