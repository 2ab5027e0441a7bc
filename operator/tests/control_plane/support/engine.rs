//! A server that speaks the engines' admin API over mutual TLS, with the certificates that the operator issued: what
//! stands where engines would, since there is no kubelet.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use vectorkeep_operator::{certificates::verify, tls};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Answers for any number of engines; which one is meant, the TLS name says.
#[derive(Clone)]
pub struct Engines {
    address: SocketAddr,
    engines: Arc<Mutex<HashMap<String, Engine>>>,
}

#[derive(Clone)]
struct Engine {
    config: Arc<ServerConfig>,
    operator_uri: String,
    answer: Value,
}

impl Engines {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let engines = Self { address: listener.local_addr().expect("an address"), engines: Arc::default() };
        let served = engines.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.serve(stream).await });
            }
        });
        engines
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the engine of a cluster: from now on it answers, with the certificates in its namespace.
    pub async fn run(&self, client: &Client, cluster_id: &str) {
        let namespace = vectorkeep_crds::identity::data_plane_namespace(cluster_id);
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let internal = entries(secrets.get("engine-internal-tls").await.expect("a secret"));
        let serving = entries(secrets.get("engine-serving-tls").await.expect("a secret"));
        let engine = Engine {
            config: Arc::new(server_config(&internal)),
            operator_uri: format!("vectorkeep://{cluster_id}/operator"),
            answer: json!({
                "version": "0.1.0", "clusterId": cluster_id, "storeId": null, "bootId": "b",
                "state": "Serving",
                "key": {"state": "Accessible", "message": "", "lastSuccess": null, "lastCheck": null, "endpointOverride": false},
                "zones": [{"id": "00", "purpose": "system", "version": 1, "state": "Accessible"}],
                "shards": [],
                "servingCertificate": {"sha256": verify::fingerprint(&serving["tls.crt"]).expect("PEM")},
                "servingAuthorities": fingerprints(&serving["ca.crt"]),
                "internalCertificate": {"sha256": verify::fingerprint(&internal["tls.crt"]).expect("PEM")},
                "internalAuthorities": fingerprints(&internal["ca.crt"]),
                "selfTest": {"passed": true, "message": ""},
            }),
        };
        let name = format!("engine-0.engine-peers.{namespace}.svc.cluster.local");
        self.engines.lock().expect("unpoisoned").insert(name, engine);
    }

    /// Changes what the engine of a cluster says of itself.
    pub fn say(&self, cluster_id: &str, state: &str, key: &str, message: &str) {
        let mut engines = self.engines.lock().expect("unpoisoned");
        let engine =
            engines.values_mut().find(|engine| engine.answer["clusterId"] == cluster_id).expect("a running engine");
        engine.answer["state"] = state.into();
        engine.answer["key"]["state"] = key.into();
        engine.answer["key"]["message"] = message.into();
    }

    /// Another release of the engine runs.
    pub fn say_version(&self, cluster_id: &str, version: &str) {
        let mut engines = self.engines.lock().expect("unpoisoned");
        let engine =
            engines.values_mut().find(|engine| engine.answer["clusterId"] == cluster_id).expect("a running engine");
        engine.answer["version"] = version.into();
    }

    /// Ends the engine of a cluster.
    pub fn end(&self, cluster_id: &str) {
        let mut engines = self.engines.lock().expect("unpoisoned");
        engines.retain(|_, engine| engine.answer["clusterId"] != cluster_id);
    }

    async fn serve(&self, stream: TcpStream) {
        let Ok(start) = LazyConfigAcceptor::new(Default::default(), stream).await else {
            return;
        };
        let name = start.client_hello().server_name().unwrap_or_default().to_owned();
        let engine = self.engines.lock().expect("unpoisoned").get(&name).cloned();
        let Some(engine) = engine else {
            return;
        };
        let Ok(stream) = start.into_stream(Arc::clone(&engine.config)).await else {
            return;
        };
        let peer = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if peer.is_none_or(|peer| names(peer) != [engine.operator_uri.clone()]) {
            return;
        }
        let answer = engine.answer.to_string();
        let service = service_fn(move |request: Request<Incoming>| {
            let found = request.uri().path() == "/v1/status";
            let body = if found { answer.clone() } else { String::new() };
            async move { Response::builder().status(if found { 200 } else { 404 }).body(Full::new(Bytes::from(body))) }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

fn entries(secret: Secret) -> HashMap<String, String> {
    secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, String::from_utf8(value.0).expect("PEM")))
        .collect()
}

fn fingerprints(bundle: &str) -> Vec<String> {
    let end = "-----END CERTIFICATE-----\n";
    bundle.split_inclusive(end).map(|certificate| verify::fingerprint(certificate).expect("PEM")).collect()
}

fn server_config(entries: &HashMap<String, String>) -> ServerConfig {
    let provider = Arc::new(tls::provider());
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(entries["ca.crt"].as_bytes()) {
        roots.add(authority.expect("PEM")).expect("a root");
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .expect("a verifier");
    let key = PrivateKeyDer::from_pem_slice(entries["tls.key"].as_bytes()).expect("PEM");
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate(&entries["tls.crt"])], key)
        .expect("a certificate")
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("DER");
    let names = certificate.subject_alternative_name().expect("parsed");
    names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .map(|name| match name {
            GeneralName::URI(uri) => (*uri).to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}
