//! The control endpoint: how tests set the world up, change it, break it and read what happened. It has no
//! authentication: bind it where only tests reach it.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access_log::Page;
use crate::config::{KeySpec, RoleSpec, SpecError};
use crate::fault::{FaultError, Faults};
use crate::key::KeyState;
use crate::simulator::Simulator;
use crate::token::IssuerSpec;

type Simulated = State<Arc<Simulator>>;

/// The routes of the control endpoint.
pub fn router(simulator: Arc<Simulator>) -> Router {
    Router::new()
        .route("/keys", get(list_keys))
        .route("/keys/{key}", put(put_key).get(get_key).delete(delete_key))
        .route("/keys/{key}/state", post(set_state))
        .route("/keys/{key}/policy", put(set_policy))
        .route("/keys/{key}/rotate", post(rotate))
        .route("/roles/{role}", put(put_role))
        .route("/issuer", put(put_issuer))
        .route("/sessions/expire", post(expire_sessions))
        .route("/faults", get(get_faults).put(put_faults).delete(clear_faults))
        .route("/log", get(read_log))
        .route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
        .with_state(simulator)
}

/// A refusal on the control endpoint: `{"error": …}`.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<SpecError> for Refusal {
    fn from(error: SpecError) -> Self {
        let status = match error {
            SpecError::NoSuchKey(_) => StatusCode::NOT_FOUND,
            SpecError::Cryptography => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self(status, message)
    }
}

impl From<FaultError> for Refusal {
    fn from(error: FaultError) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

/// A JSON body whose errors are answered in JSON too.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Json(value) = Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

type Answer = Result<Json<Value>, Refusal>;

fn done() -> Json<Value> {
    Json(json!({"ok": true}))
}

async fn list_keys(State(simulator): Simulated) -> Json<Value> {
    Json(json!({"keys": simulator.world().keys.keys().collect::<Vec<_>>()}))
}

async fn put_key(State(simulator): Simulated, Path(key): Path<String>, Body(spec): Body<KeySpec>) -> Answer {
    simulator.put_key(&key, &spec)?;
    Ok(done())
}

async fn get_key(State(simulator): Simulated, Path(key): Path<String>) -> Answer {
    Ok(Json(simulator.describe_key(&key)?))
}

async fn delete_key(State(simulator): Simulated, Path(key): Path<String>) -> Answer {
    simulator.delete_key(&key)?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateChange {
    state: KeyState,
}

async fn set_state(State(simulator): Simulated, Path(key): Path<String>, Body(change): Body<StateChange>) -> Answer {
    simulator.set_state(&key, change.state)?;
    Ok(done())
}

async fn set_policy(State(simulator): Simulated, Path(key): Path<String>, Body(policy): Body<Value>) -> Answer {
    simulator.set_policy(&key, &policy)?;
    Ok(done())
}

async fn rotate(State(simulator): Simulated, Path(key): Path<String>) -> Answer {
    simulator.rotate(&key)?;
    Ok(done())
}

async fn put_role(State(simulator): Simulated, Path(role): Path<String>, Body(spec): Body<RoleSpec>) -> Answer {
    simulator.put_role(&role, spec)?;
    Ok(done())
}

async fn put_issuer(State(simulator): Simulated, Body(spec): Body<IssuerSpec>) -> Answer {
    simulator.put_issuer(spec)?;
    Ok(done())
}

async fn expire_sessions(State(simulator): Simulated) -> Json<Value> {
    Json(json!({"expired": simulator.expire_sessions()}))
}

async fn get_faults(State(simulator): Simulated) -> Json<Faults> {
    Json(simulator.faults.current())
}

async fn put_faults(State(simulator): Simulated, Body(faults): Body<Faults>) -> Answer {
    simulator.faults.replace(faults)?;
    Ok(done())
}

async fn clear_faults(State(simulator): Simulated) -> Answer {
    simulator.faults.replace(Faults::default())?;
    Ok(done())
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    since: u64,
}

async fn read_log(State(simulator): Simulated, Query(position): Query<Position>) -> Json<Page> {
    Json(simulator.log.since(position.since))
}
