//! A receiver of notifications over TLS, which answers, refuses, falls silent or hangs up as told, and remembers what it
//! was sent.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use vectorkeep_operator::{
    certificates::{AuthorityRequest, LeafRequest, TlsMaterial, Usage, issue},
    tls,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An answer with this status.
    Status(u16),
    /// None, until long after the sender's deadline.
    Silence,
    /// None: the connection is closed once the request was read.
    HangUp,
}

/// What TLS a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// As it should be.
    V13,
    /// Only what is older.
    V12,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub content_type: String,
    pub path: String,
    pub body: Vec<u8>,
    pub answer: Answer,
}

impl Received {
    /// The event.
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Type of the event, without what all have in common.
    pub fn type_(&self) -> String {
        let event = self.event();
        let type_ = event["type"].as_str().expect("a type");
        type_.trim_start_matches("dev.vectorkeep.").trim_end_matches(".v1").to_owned()
    }

    /// Whether it was signed with this key, as a receiver would check it: here by another library call than the sender's.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        let signed = [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", &self.body].concat();
        let signature = self.signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        signature.is_some_and(|signature| hmac::verify(&key, &signed, &signature).is_ok())
    }
}

/// See the module's documentation.
#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    authority: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// The next answers; the last one stays.
    answers: VecDeque<Answer>,
    received: Vec<Received>,
    connections: usize,
}

impl Receiver {
    pub async fn start(version: Tls, answers: &[Answer]) -> Self {
        let material = certificate();
        let config = match version {
            Tls::V13 => tls::server(&material).expect("a configuration"),
            Tls::V12 => old_server(&material),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let shared = Shared { answers: answers.iter().copied().collect(), received: Vec::new(), connections: 0 };
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            authority: material.authority,
            shared: Arc::new(Mutex::new(shared)),
        };
        let served = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.shared().connections += 1;
                let (served, acceptor) = (served.clone(), acceptor.clone());
                tokio::spawn(async move { served.serve(stream, acceptor).await });
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/hook?token=in-the-url", self.address.port())
    }

    /// The CA that verifies it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Answers so from now on.
    pub fn answer(&self, answers: &[Answer]) {
        self.shared().answers = answers.iter().copied().collect();
    }

    /// Everything that was received so far, also what was not accepted.
    pub fn received(&self) -> Vec<Received> {
        self.shared().received.clone()
    }

    /// What was accepted so far.
    pub fn accepted(&self) -> Vec<Received> {
        self.received().into_iter().filter(|received| received.answer == Answer::Status(202)).collect()
    }

    /// Connections so far, whatever became of them.
    pub fn connections(&self) -> usize {
        self.shared().connections
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("unpoisoned")
    }

    fn take(&self, mut received: Received) -> Answer {
        let mut shared = self.shared();
        received.answer = match shared.answers.len() {
            1 => shared.answers[0],
            _ => shared.answers.pop_front().expect("an answer"),
        };
        let answer = received.answer;
        shared.received.push(received);
        answer
    }

    async fn serve(&self, stream: TcpStream, acceptor: TlsAcceptor) {
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let service = service_fn(move |request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let header = |name: &str| {
                let value = head.headers.get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let received = Received {
                id: header("webhook-id"),
                timestamp: header("webhook-timestamp"),
                signature: header("webhook-signature"),
                content_type: header("content-type"),
                path: head.uri.to_string(),
                body: body.collect().await.map_err(std::io::Error::other)?.to_bytes().to_vec(),
                answer: Answer::HangUp,
            };
            match self.take(received) {
                Answer::Status(status) => {
                    Response::builder().status(status).body(Full::new(Bytes::new())).map_err(std::io::Error::other)
                }
                Answer::HangUp => Err(std::io::Error::other("told to")),
                Answer::Silence => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Err(std::io::Error::other("told to"))
                }
            }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

/// A certificate for `localhost`, of a CA of its own.
fn certificate() -> TlsMaterial {
    let lifetime = SignedDuration::from_hours(24);
    let (name, dns) = ("a receiver".to_owned(), vec!["localhost".to_owned()]);
    let request =
        AuthorityRequest { common_name: name.clone(), own_dns: dns.clone(), further_dns: Vec::new(), lifetime };
    let authority = issue::authority(&request, Timestamp::now()).expect("a CA");
    let request = LeafRequest { common_name: name, dns_names: dns, uris: Vec::new(), usage: Usage::Server, lifetime };
    issue::leaf(&request, &authority, Timestamp::now()).expect("a certificate")
}

fn old_server(material: &TlsMaterial) -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(material.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(material.key.reveal()).expect("PEM");
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate")
}
