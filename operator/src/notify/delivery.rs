//! One attempt to deliver one event: HTTPS with TLS 1.3, signed, within a deadline. No redirect is followed, and of the
//! answer only the status counts.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use http_body_util::Full;
use hyper::{Request, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::Timestamp;

use super::{
    notice::CloudEvent,
    signature::{self, KeyError, SigningKey},
    target::Target,
};
use crate::{chain::chain, sensitive::Sensitive};

/// A target that takes longer has not accepted.
const DEADLINE: Duration = Duration::from_secs(10);
/// A target may ask for so much patience and no more.
const LONGEST_REQUESTED: Duration = Duration::from_secs(3600);

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target has it.
    Accepted,
    /// Not this time. It may go better soon.
    Failed {
        /// Why, without the URL.
        why: String,
        /// How long the target asks to wait.
        retry_after: Option<Duration>,
    },
    /// The target wants nothing of this: a person has to look at it.
    Refused(StatusCode),
}

/// Why nothing could be sent. No URLs: they may hold more than is good for a log.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the signing key can't be read; create the secret that the chart's value notifications.targets names")]
    KeyFile(#[source] std::io::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the event can't be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("the request can't be made")]
    Request(#[from] http::Error),
    #[error("the target was not reached")]
    Send(#[from] hyper_util::client::legacy::Error),
    #[error("the target did not answer within {} seconds", DEADLINE.as_secs())]
    Deadline,
}

/// Delivers to one target.
pub struct Courier {
    target: Target,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Courier {
    /// A courier to this target.
    pub fn new(target: Target) -> Self {
        let https =
            HttpsConnectorBuilder::new().with_tls_config((*target.tls).clone()).https_only().enable_http1().build();
        // A connection that was kept would be another that a receiver can drop between two events.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https);
        Self { target, client }
    }

    /// The target's name.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Tries once.
    pub async fn deliver(&self, event: &CloudEvent, now: Timestamp) -> Outcome {
        let sending = tokio::time::timeout(DEADLINE, self.send(event, now));
        match sending.await.unwrap_or(Err(SendError::Deadline)) {
            Ok((status, headers)) => judge(status, &headers),
            Err(error) => Outcome::Failed { why: chain(&error), retry_after: None },
        }
    }

    async fn send(&self, event: &CloudEvent, now: Timestamp) -> Result<(StatusCode, HeaderMap), SendError> {
        let body = serde_json::to_vec(event)?;
        // Anew each time, so that a key that was changed counts from the next attempt on.
        let key = tokio::fs::read(&self.target.signing_key).await.map_err(SendError::KeyFile)?;
        let key = SigningKey::parse(Sensitive::new(key))?;
        let timestamp = now.as_second().to_string();
        let signature = key.sign(&event.id, &timestamp, &body);
        let request = Request::post(self.target.url.clone())
            .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .header(header::USER_AGENT, concat!("vectorkeep-operator/", env!("CARGO_PKG_VERSION")))
            .header(signature::ID, &event.id)
            .header(signature::TIMESTAMP, timestamp)
            .header(signature::SIGNATURE, signature)
            .body(Full::new(Bytes::from(body)))?;
        let (answer, _) = self.client.request(request).await?.into_parts();
        Ok((answer.status, answer.headers))
    }
}

/// What a target means by its answer.
fn judge(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_success() {
        return Outcome::Accepted;
    }
    if !status.is_server_error() && !passing.contains(&status) {
        return Outcome::Refused(status);
    }
    let asked = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let retry_after = asked.map(|seconds| Duration::from_secs(seconds).min(LONGEST_REQUESTED));
    Outcome::Failed { why: format!("the target answered {status}"), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, retry_after: Option<&'static str>) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().expect("a value"));
        }
        judge(StatusCode::from_u16(status).expect("a status"), &headers)
    }

    fn patience(outcome: Outcome) -> Option<Duration> {
        match outcome {
            Outcome::Failed { retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_success_is_an_acceptance_and_no_redirect_is_one() {
        for status in [200, 202, 204] {
            assert_eq!(judged(status, None), Outcome::Accepted);
        }
        for status in [301, 307, 400, 401, 404, 410, 413] {
            assert!(matches!(judged(status, None), Outcome::Refused(_)), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503] {
            assert!(matches!(judged(status, None), Outcome::Failed { .. }), "{status}");
        }
    }

    #[test]
    fn a_target_is_given_the_time_it_asks_for_within_reason() {
        assert_eq!(patience(judged(503, Some("30"))), Some(Duration::from_secs(30)));
        assert_eq!(patience(judged(429, Some("99999999999"))), Some(LONGEST_REQUESTED));
        assert_eq!(patience(judged(503, Some("tomorrow"))), None);
        assert_eq!(patience(judged(503, None)), None);
    }
}
