//! What the customer is given: the connection secret; and the generated secrets behind it.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use vectorkeep_crds::{
    identity::{client_uri, connection_secret_name},
    tls::ClientAuth,
};

use super::{
    certificates::{Certificates, LeafChange, Serving, Trust, material},
    identity::Identity,
    record,
    refusal::Refusal,
    role_binding,
};
use crate::{
    certificates::{TlsMaterial, verify},
    observed::{Observed, SecretSeen},
};

/// Secret with the initial password of the user `root`, in the data-plane namespace.
pub const ROOT_PASSWORD: &str = "engine-root-password";
/// Its entry.
pub const PASSWORD_ENTRY: &str = "password";
/// Secret with the master key of a development cluster.
pub const LOCAL_KEY: &str = "engine-local-key";
/// Its entry.
pub const KEY_ENTRY: &str = "key";
/// Bytes of a master key.
pub const KEY_BYTES: usize = 32;
/// Type of the connection secret: the admission policies of the chart let the operator write no other one into a
/// customer's namespace.
pub const CONNECTION_TYPE: &str = "vectorkeep.dev/connection";
/// The first user of every cluster.
pub const ROOT_USER: &str = "root";

/// What becomes of a secret whose value is drawn once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// It is there. Its value is never looked at again, and never overwritten.
    Keep,
    /// It is missing: draw a value, and create it (never replace it).
    Create,
}

/// What becomes of the connection secret.
///
/// The operator can't read secrets in a customer's namespace, so it does not know whether the secret is there: it
/// creates it, and takes "already exists" for an answer. A customer who keeps a newer password in it keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The certificate that clients are to show, if there is one.
    pub client: Option<TlsMaterial>,
    /// Whether that is to be written anew, or taken away, in a secret that is there.
    pub refresh_client: bool,
    /// Whether address and CA certificates in a secret that is there are to be written anew, since others are trusted
    /// than were published last. The password is left alone.
    pub refresh_authority: bool,
}

/// Whether the initial password is to be drawn.
pub fn root_password(observed: &Observed) -> Draw {
    let children = observed.children.as_ref();
    draw(children.and_then(|children| children.root_password.as_ref()))
}

/// Whether the master key of a development cluster is to be drawn. A key that is there but is none is an error for
/// a person to solve: a new one would make the stored data unreadable for good.
pub fn local_key(observed: &Observed) -> Result<Option<Draw>, Refusal> {
    if observed.cluster.spec.encryption.local.is_none() {
        return Ok(None);
    }
    let children = observed.children.as_ref();
    let seen = children.and_then(|children| children.local_key.as_ref());
    let length = seen.and_then(|seen| seen.entry(KEY_ENTRY)).map(|key| key.reveal().len());
    if seen.is_some() && length != Some(KEY_BYTES) {
        return Err(Refusal::Field {
            field: "encryption.local",
            problem: format!(
                "the secret {LOCAL_KEY} in the data-plane namespace does not hold the {KEY_BYTES} bytes of a key; \
                 restore it from a backup"
            ),
        });
    }
    Ok(Some(draw(seen)))
}

fn draw(seen: Option<&SecretSeen>) -> Draw {
    match seen {
        Some(_) => Draw::Keep,
        None => Draw::Create,
    }
}

/// What becomes of the connection secret. Nothing while it is not known what clients are to trust: what they were told to
/// trust meanwhile, they would hold on to.
///
/// Where another CA takes over, all of it waits for the engine: who trusts nothing but what is to come would refuse what
/// the engine still shows, and who shows what the CA to come signed would be refused by it.
pub fn publication(observed: &Observed, certificates: &Certificates) -> Option<Publication> {
    if certificates.serving.is_awaited() {
        return None;
    }
    let (current, before) = (certificates.serving.fingerprint(), record::published_authority(observed));
    let takes_over = current.as_deref().zip(before).is_some_and(|(current, before)| are_disjoint(current, before));
    let early = takes_over && may_show_another(observed, certificates);
    let refresh_authority = current.is_some() && current.as_deref() != before && !early;
    let asked = observed.cluster.spec.tls.client_auth != ClientAuth::None;
    let (client, refresh_client) = match &certificates.serving {
        // An order that is withdrawn before it was filled: the engine judges by the CA of before.
        Serving::Issued(issued) if asked && issued.is_from_before() => {
            (observed.custody.client.as_ref().and_then(material), false)
        }
        serving => match serving.own().and_then(|own| own.client.as_ref()) {
            // What was published is good until then.
            Some(LeafChange::Make { .. }) => (None, false),
            change => {
                let client = change.and_then(LeafChange::material).cloned();
                let differs = client_fingerprint(client.as_ref()).as_deref() != record::published_client(observed);
                (client, differs && !early)
            }
        },
    };
    Some(Publication { client, refresh_client, refresh_authority })
}

/// By what the operator remembers which client certificate it published.
pub fn client_fingerprint(client: Option<&TlsMaterial>) -> Option<String> {
    verify::fingerprint(&client?.certificate).ok()
}

/// Whether two lists of fingerprints have nothing in common.
fn are_disjoint(a: &str, b: &str) -> bool {
    a.split(',').all(|fingerprint| b.split(',').all(|other| other != fingerprint))
}

/// Whether the engine shows another certificate than the one that it is to show, or has not been asked yet, which it is
/// within seconds. Of one that is silent nobody knows when it will say more.
fn may_show_another(observed: &Observed, certificates: &Certificates) -> bool {
    if observed.engine.is_awaited() {
        return true;
    }
    let shown = observed.engine.answer().and_then(|status| status.serving_certificate.as_ref());
    let wanted = certificates.serving.certificate().and_then(|certificate| verify::fingerprint(certificate).ok());
    shown.is_some_and(|shown| wanted.is_none_or(|wanted| !shown.sha256.eq_ignore_ascii_case(&wanted)))
}

/// The connection secret.
pub fn connection_secret(identity: &Identity, trust: &Trust, client: Option<&TlsMaterial>, password: &str) -> Secret {
    let name = connection_secret_name(&identity.owner_name);
    let mut metadata = identity.meta_in(Some(&identity.owner_namespace), &name);
    metadata.owner_references = Some(vec![role_binding::owner(identity)]);
    let entries = published(identity, trust).into_iter().chain(shown(client));
    let mut data: BTreeMap<_, _> = entries.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    for (key, value) in [
        ("username", ROOT_USER.to_owned()),
        ("password", password.to_owned()),
        ("token", format!("{ROOT_USER}:{password}")),
    ] {
        data.insert(key.to_owned(), ByteString(value.into_bytes()));
    }
    Secret { metadata, type_: Some(CONNECTION_TYPE.to_owned()), data: Some(data), ..Secret::default() }
}

/// The entries of the connection secret that are the operator's for good. One without a value is not to be there.
pub fn published(identity: &Identity, trust: &Trust) -> BTreeMap<&'static str, Option<ByteString>> {
    BTreeMap::from([
        ("uri", Some(ByteString(client_uri(&identity.cluster_id).into_bytes()))),
        ("ca.crt", trust.certificates().map(|bundle| ByteString(bundle.as_bytes().to_vec()))),
    ])
}

/// The entries with what clients show. One without a value is not to be there.
pub fn shown(client: Option<&TlsMaterial>) -> BTreeMap<&'static str, Option<ByteString>> {
    let entry = |value: fn(&TlsMaterial) -> &[u8]| client.map(|client| ByteString(value(client).to_vec()));
    BTreeMap::from([
        ("client.crt", entry(|client| client.certificate.as_bytes())),
        ("client.key", entry(|client| client.key.reveal())),
    ])
}
