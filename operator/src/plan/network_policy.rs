//! Who reaches the engine and whom it reaches: nothing, except what is listed here.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};
use vectorkeep_crds::{
    identity::CLIENT_PORT,
    network::{self, NetworkClient},
};

use super::{
    egress::{self, KmsEgress},
    identity::{Identity, strings},
};
use crate::{
    admin::{ADMIN_PORT, HEALTH_PORT},
    settings::Settings,
};

/// Every policy of a cluster, the denial first.
pub fn policies(
    identity: &Identity,
    clients: &[NetworkClient],
    egress: &KmsEgress,
    settings: &Settings,
) -> Vec<NetworkPolicy> {
    let mut policies = vec![default_deny(identity)];
    if !clients.is_empty() {
        policies.push(from_clients(identity, clients));
    }
    policies.push(from_operator(identity, settings));
    if !settings.monitoring_namespaces.is_empty() {
        policies.push(from_monitoring(identity, settings));
    }
    policies.push(to_dns(identity));
    policies.extend(to_kms(identity, egress));
    policies
}

/// Every pod of the namespace, in both directions.
fn default_deny(identity: &Identity) -> NetworkPolicy {
    policy(
        identity,
        "default-deny",
        NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ..NetworkPolicySpec::default()
        },
    )
}

fn from_clients(identity: &Identity, clients: &[NetworkClient]) -> NetworkPolicy {
    let peers = clients.iter().map(|client| client_peer(identity, client)).collect();
    ingress(identity, "engine-clients", peers, &[CLIENT_PORT])
}

fn client_peer(identity: &Identity, client: &NetworkClient) -> NetworkPolicyPeer {
    if let Some(cidr) = &client.cidr {
        return NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: cidr.clone(), except: None }),
            ..NetworkPolicyPeer::default()
        };
    }
    // Without a namespace, Kubernetes would mean the policy's own namespace, where no client ever is.
    let namespaces = match &client.namespace_selector {
        Some(selector) => label_selector(selector),
        None => one_namespace(&identity.owner_namespace),
    };
    NetworkPolicyPeer {
        namespace_selector: Some(namespaces),
        pod_selector: client.pod_selector.as_ref().map(label_selector),
        ip_block: None,
    }
}

/// The admin port for the operator's pods and nobody else; health too, so that it can be looked at.
fn from_operator(identity: &Identity, settings: &Settings) -> NetworkPolicy {
    let labels = settings.operator_pod_labels.iter().cloned().collect();
    let peer = NetworkPolicyPeer {
        namespace_selector: Some(one_namespace(&settings.operator_namespace)),
        pod_selector: Some(matching(labels)),
        ip_block: None,
    };
    ingress(identity, "engine-operator", vec![peer], &[HEALTH_PORT, ADMIN_PORT])
}

fn from_monitoring(identity: &Identity, settings: &Settings) -> NetworkPolicy {
    let peers = settings
        .monitoring_namespaces
        .iter()
        .map(|namespace| NetworkPolicyPeer {
            namespace_selector: Some(one_namespace(namespace)),
            ..NetworkPolicyPeer::default()
        })
        .collect();
    ingress(identity, "engine-monitoring", peers, &[HEALTH_PORT])
}

fn to_dns(identity: &Identity) -> NetworkPolicy {
    let peer = NetworkPolicyPeer {
        namespace_selector: Some(one_namespace("kube-system")),
        pod_selector: Some(matching(strings([("k8s-app", "kube-dns")]))),
        ip_block: None,
    };
    let rule = NetworkPolicyEgressRule { to: Some(vec![peer]), ports: Some(vec![port("UDP", 53), port("TCP", 53)]) };
    egress_policy(identity, "engine-dns", vec![rule])
}

fn to_kms(identity: &Identity, kms: &KmsEgress) -> Option<NetworkPolicy> {
    let rules = match kms {
        KmsEgress::Nothing => return None,
        KmsEgress::Given(addresses) => addresses
            .iter()
            .map(|address| NetworkPolicyEgressRule {
                to: Some(vec![block(&address.range.to_string(), Vec::new())]),
                ports: Some(vec![port("TCP", address.port)]),
            })
            .collect(),
        KmsEgress::PublicOnly { except } => ["0.0.0.0/0", "::/0"]
            .into_iter()
            .map(|all| {
                let v6 = all.contains(':');
                let except = except.iter().filter(|range| range.is_v6() == v6).map(ToString::to_string).collect();
                NetworkPolicyEgressRule {
                    to: Some(vec![block(all, except)]),
                    ports: Some(vec![port("TCP", egress::HTTPS)]),
                }
            })
            .collect(),
    };
    Some(egress_policy(identity, "engine-kms", rules))
}

fn ingress(identity: &Identity, name: &str, from: Vec<NetworkPolicyPeer>, ports: &[u16]) -> NetworkPolicy {
    policy(
        identity,
        name,
        NetworkPolicySpec {
            pod_selector: Some(matching(identity.engine_labels())),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(from),
                ports: Some(ports.iter().map(|number| port("TCP", *number)).collect()),
            }]),
            ..NetworkPolicySpec::default()
        },
    )
}

fn egress_policy(identity: &Identity, name: &str, rules: Vec<NetworkPolicyEgressRule>) -> NetworkPolicy {
    policy(
        identity,
        name,
        NetworkPolicySpec {
            pod_selector: Some(matching(identity.engine_labels())),
            policy_types: Some(vec!["Egress".to_owned()]),
            egress: Some(rules),
            ..NetworkPolicySpec::default()
        },
    )
}

fn policy(identity: &Identity, name: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy { metadata: identity.meta(name), spec: Some(spec) }
}

fn block(cidr: &str, except: Vec<String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.to_owned(), except: Some(except).filter(|except| !except.is_empty()) }),
        ..NetworkPolicyPeer::default()
    }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(number))),
        end_port: None,
    }
}

/// A namespace by its name, through the label that Kubernetes itself sets and nobody can take away.
fn one_namespace(name: &str) -> LabelSelector {
    matching(strings([("kubernetes.io/metadata.name", name)]))
}

fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn label_selector(selector: &network::LabelSelector) -> LabelSelector {
    let expressions: Vec<_> = selector
        .match_expressions
        .iter()
        .map(|expression| LabelSelectorRequirement {
            key: expression.key.clone(),
            operator: expression.operator.as_str().to_owned(),
            values: Some(expression.values.clone()).filter(|values| !values.is_empty()),
        })
        .collect();
    LabelSelector {
        match_labels: Some(selector.match_labels.clone()).filter(|labels| !labels.is_empty()),
        match_expressions: Some(expressions).filter(|expressions| !expressions.is_empty()),
    }
}
