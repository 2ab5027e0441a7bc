//! How the engine is found: by clients, and by name for the operator.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use vectorkeep_crds::identity::CLIENT_PORT;

use super::identity::Identity;
use crate::admin::{ADMIN_PORT, HEALTH_PORT};

/// Name of what clients connect to.
pub const CLIENT_SERVICE: &str = "engine";
/// Name of what gives each pod a name of its own.
pub const PEERS_SERVICE: &str = "engine-peers";

/// What clients connect to. Only pods that answer are behind it, whatever the state of their key.
pub fn client(identity: &Identity) -> Service {
    Service {
        metadata: identity.meta(CLIENT_SERVICE),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(identity.engine_labels()),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Names for the engine's pods, from their first moment on: a locked engine must be asked why.
pub fn peers(identity: &Identity) -> Service {
    Service {
        metadata: identity.meta(PEERS_SERVICE),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(identity.engine_labels()),
            ports: Some(vec![port("health", HEALTH_PORT), port("admin", ADMIN_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
