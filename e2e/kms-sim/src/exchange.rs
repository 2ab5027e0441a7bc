//! One HTTP request and its answer on the protocol port: which service it is for, the faults that befall it, and the
//! event that it leaves in the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::json;
use thiserror::Error;

use crate::access_log::Event;
use crate::api_error::ApiError;
use crate::fault::{Affliction, Ending, Service};
use crate::simulator::Simulator;
use crate::sts::Query;
use crate::{kms, sigv4, sts};

const KMS_TARGET: &str = "TrentService.";
const KMS_CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const FORM_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";
const MAX_BODY: usize = 256 * 1024;
/// A hanging connection is given up in the end, in case its client never does.
const HANG: Duration = Duration::from_secs(600);

/// The connection is to be closed without an answer.
#[derive(Debug, Error)]
#[error("connection closed by an injected fault")]
pub struct Dropped;

/// Answers one request.
///
/// # Errors
/// A fault wants the connection closed.
pub async fn answer(
    simulator: Arc<Simulator>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Dropped> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or was cut off"));
    };
    let body = body.to_bytes();
    let target = header(&parts.headers, "x-amz-target");
    let content_type = header(&parts.headers, CONTENT_TYPE.as_str());
    let exchange = Exchange { simulator: &simulator, peer, parts: &parts, body: &body, request_id: &request_id };
    if parts.method != Method::POST || parts.uri.path() != "/" || parts.uri.query().is_some() {
        return Ok(plain(StatusCode::NOT_FOUND, "both protocols use POST / without a query"));
    }
    match target.strip_prefix(KMS_TARGET) {
        Some(operation) if content_type == KMS_CONTENT_TYPE => exchange.kms(operation).await,
        Some(_) => Ok(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "KMS requests are application/x-amz-json-1.1")),
        None if content_type.starts_with(FORM_CONTENT_TYPE) => exchange.sts().await,
        None => Ok(plain(StatusCode::BAD_REQUEST, "neither a KMS nor an STS request")),
    }
}

struct Exchange<'a> {
    simulator: &'a Simulator,
    peer: SocketAddr,
    parts: &'a Parts,
    body: &'a [u8],
    request_id: &'a str,
}

impl Exchange<'_> {
    async fn kms(&self, operation: &str) -> Result<Response<Full<Bytes>>, Dropped> {
        let affliction = self.simulator.faults.draw(Service::Kms, operation);
        tokio::time::sleep(affliction.latency).await;
        let mut event = self.event(Service::Kms, operation);
        let caller = sigv4::authenticate(&self.simulator.world().sessions, self.parts, self.body, SystemTime::now());
        if let Ok(caller) = &caller {
            event.caller(&caller.session, &caller.region);
        }
        let outcome = match self.befall(&affliction, &mut event, kms::throttled, kms::internal).await? {
            Some(error) => Err(error),
            None => caller.and_then(|caller| {
                let mut world = self.simulator.world();
                kms::serve(&mut world, &caller, operation, self.body, affliction.wrong_plaintext, &mut event)
            }),
        };
        let (status, body) = match outcome {
            Ok(body) => (StatusCode::OK, body),
            Err(error) => {
                event.error(error.code, error.message.as_deref());
                let mut body = json!({"__type": error.code});
                if let Some(message) = error.message {
                    body["message"] = json!(message);
                }
                (error.status, body)
            }
        };
        self.simulator.log.record(event);
        Ok(self.response(status, KMS_CONTENT_TYPE, body.to_string()))
    }

    async fn sts(&self) -> Result<Response<Full<Bytes>>, Dropped> {
        let query = Query::parse(self.body);
        let action = query.get("Action").unwrap_or("Unknown");
        let affliction = self.simulator.faults.draw(Service::Sts, action);
        tokio::time::sleep(affliction.latency).await;
        let mut event = self.event(Service::Sts, action);
        let outcome = match self.befall(&affliction, &mut event, sts::throttled, sts::internal).await? {
            Some(error) => Err(error),
            None => {
                let mut world = self.simulator.world();
                sts::serve(&mut world, &query, affliction.session_lifetime, self.request_id, &mut event)
            }
        };
        let (status, body) = match outcome {
            Ok(body) => (StatusCode::OK, body),
            Err(error) => {
                event.error(error.code, error.message.as_deref());
                (error.status, sts::error_body(&error, self.request_id))
            }
        };
        self.simulator.log.record(event);
        Ok(self.response(status, "text/xml", body))
    }

    /// Lets an injected fault end the request, if one does.
    async fn befall(
        &self,
        affliction: &Affliction,
        event: &mut Event,
        throttled: fn() -> ApiError,
        internal: fn() -> ApiError,
    ) -> Result<Option<ApiError>, Dropped> {
        let Some(ending) = affliction.ending else {
            return Ok(None);
        };
        event.injected(ending);
        match ending {
            Ending::Throttle => Ok(Some(throttled())),
            Ending::InternalError => Ok(Some(internal())),
            Ending::Drop | Ending::Hang => {
                self.simulator.log.record(event.clone());
                if ending == Ending::Hang {
                    tokio::time::sleep(HANG).await;
                }
                Err(Dropped)
            }
        }
    }

    fn event(&self, service: Service, operation: &str) -> Event {
        let user_agent = header(&self.parts.headers, USER_AGENT.as_str());
        let source = self.peer.ip().to_string();
        Event::new(service, operation, self.request_id, &source, user_agent)
    }

    fn response(&self, status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Ok(id) = HeaderValue::from_str(self.request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// An answer to what is no request of either protocol.
fn plain(status: StatusCode, message: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(message.as_bytes())));
    *response.status_mut() = status;
    response
}
