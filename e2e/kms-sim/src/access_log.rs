//! The access log: one event per request, shaped like those of CloudTrail. No event holds key material, plaintext,
//! ciphertext, a token or a secret.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::arn::KeyArn;
use crate::fault::{Ending, Service};
use crate::session::Session;

/// Events kept for the control endpoint.
const KEPT: usize = 65_536;

/// An event under construction: filled in as the request is understood.
#[derive(Clone, Debug)]
pub struct Event {
    fields: Value,
}

impl Event {
    /// An event of a request that has just arrived.
    #[must_use]
    pub fn new(service: Service, operation: &str, request_id: &str, source: &str, user_agent: &str) -> Self {
        let (source_name, read_only) = match service {
            Service::Kms => ("kms.amazonaws.com", true),
            Service::Sts => ("sts.amazonaws.com", true),
        };
        let fields = json!({
            "eventVersion": "1.11",
            "eventTime": whole_seconds(jiff::Timestamp::now()),
            "eventSource": source_name,
            "eventName": operation,
            "userIdentity": {"type": "Unknown"},
            "sourceIPAddress": source,
            "userAgent": user_agent.chars().take(512).collect::<String>(),
            "requestParameters": null,
            "responseElements": null,
            "requestID": request_id,
            "eventID": uuid::Uuid::new_v4().to_string(),
            "readOnly": read_only,
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "eventCategory": "Management",
        });
        Self { fields }
    }

    /// The caller is this role session.
    pub fn caller(&mut self, session: &Session, region: &str) {
        self.set(
            "userIdentity",
            json!({
                "type": "AssumedRole",
                "principalId": session.principal_id(),
                "arn": session.arn(),
                "accountId": session.role.account,
                "accessKeyId": session.access_key_id,
                "sessionContext": {
                    "sessionIssuer": {
                        "type": "Role",
                        "principalId": session.role_id,
                        "arn": session.role.to_string(),
                        "accountId": session.role.account,
                        "userName": session.role.name(),
                    },
                    "webIdFederationData": {"federatedProvider": session.federated_provider},
                },
            }),
        );
        self.set("awsRegion", json!(region));
    }

    /// The caller is a web identity, whose token was verified.
    pub fn web_identity(&mut self, issuer: &str, audience: &str, subject: &str) {
        self.set(
            "userIdentity",
            json!({
                "type": "WebIdentityUser",
                "principalId": format!("{issuer}:{audience}:{subject}"),
                "userName": subject,
                "identityProvider": issuer,
            }),
        );
    }

    /// What was asked for.
    pub fn request_parameters(&mut self, parameters: Value) {
        self.set("requestParameters", parameters);
    }

    /// What was answered, as far as it isn't secret.
    pub fn response_elements(&mut self, elements: Value) {
        self.set("responseElements", elements);
    }

    /// The key that the request was about.
    pub fn resource(&mut self, key: &KeyArn) {
        let resource = json!({"accountId": key.account, "type": "AWS::KMS::Key", "ARN": key.to_string()});
        self.set("resources", json!([resource]));
        self.set("recipientAccountId", json!(key.account));
    }

    /// The backing key that was used.
    pub fn key_material(&mut self, id: &str) {
        self.additional("keyMaterialId", id);
    }

    /// The request ended by an injected fault.
    pub fn injected(&mut self, ending: Ending) {
        self.additional("injectedFault", ending.as_str());
    }

    /// The answer held another plaintext than the right one.
    pub fn injected_wrong_plaintext(&mut self) {
        self.additional("injectedFault", "wrong_plaintext");
    }

    /// The request was refused.
    pub fn error(&mut self, code: &str, message: Option<&str>) {
        self.set("errorCode", json!(code));
        if let Some(message) = message {
            self.set("errorMessage", json!(message));
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        self.fields[name] = value;
    }

    fn additional(&mut self, name: &str, text: &str) {
        self.fields["additionalEventData"][name] = json!(text);
    }
}

/// Events since a position, for the control endpoint.
#[derive(Debug, serde::Serialize)]
pub struct Page {
    /// Position to ask from next time.
    pub next: u64,
    /// Position of the first event below; later than asked for if older events are no longer kept.
    pub first: u64,
    /// The events.
    pub events: Vec<Value>,
}

/// All events: in memory, and as JSON lines in a file or on standard output.
pub struct AccessLog {
    inner: Mutex<Inner>,
}

struct Inner {
    first: u64,
    events: VecDeque<Value>,
    sink: Option<Box<dyn Write + Send>>,
}

impl AccessLog {
    /// A log that also writes to `sink`.
    #[must_use]
    pub fn new(sink: Option<Box<dyn Write + Send>>) -> Self {
        Self { inner: Mutex::new(Inner { first: 0, events: VecDeque::new(), sink }) }
    }

    /// Adds a finished event.
    pub fn record(&self, event: Event) {
        let mut inner = self.lock();
        if let Some(sink) = &mut inner.sink {
            let written = writeln!(sink, "{}", event.fields).and_then(|()| sink.flush());
            if let Err(error) = written {
                tracing::error!(%error, "the access log could not be written; free space or fix its path");
            }
        }
        if inner.events.len() == KEPT {
            inner.events.pop_front();
            inner.first += 1;
        }
        inner.events.push_back(event.fields);
    }

    /// The events from a position on.
    #[must_use]
    pub fn since(&self, position: u64) -> Page {
        let inner = self.lock();
        let next = inner.first + inner.events.len() as u64;
        let first = position.clamp(inner.first, next);
        let skipped = usize::try_from(first - inner.first).unwrap_or(usize::MAX);
        Page { next, first, events: inner.events.iter().skip(skipped).cloned().collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.lock();
        f.debug_struct("AccessLog").field("first", &inner.first).field("events", &inner.events.len()).finish()
    }
}

/// RFC 3339 without fractions, as CloudTrail and STS write times.
#[must_use]
pub fn whole_seconds(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_any_position() {
        let log = AccessLog::new(None);
        for id in ["a", "b", "c"] {
            log.record(Event::new(Service::Kms, "Decrypt", id, "127.0.0.1", "test"));
        }
        let page = log.since(1);
        assert_eq!((page.first, page.next), (1, 3));
        assert_eq!(page.events[0]["requestID"], "b");
        assert!(log.since(3).events.is_empty());
        assert_eq!(log.since(99).first, 3);
    }
}
