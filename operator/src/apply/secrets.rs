//! Certificates and drawn values: made here, since they need chance, and never overwritten by accident.
//!
//! A missing secret is *created*, so that two operators that believe to lead can't both win; one that is not as it
//! should be is *replaced* in the very version that was judged.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use rand::{TryRngCore, rngs::OsRng};
use serde_json::json;
use vectorkeep_crds::identity::connection_secret_name;

use super::{
    ApplyError,
    write::{Created, Writer},
};
use crate::{
    certificates::{TlsMaterial, issue},
    observed::Observed,
    plan::{
        certificates::{
            Authority, AuthorityChange, Certificates, INTERNAL_TLS, LeafChange, Own, SERVING_TLS, Serving, Trust,
            client_name, internal_ca_name, operator_client_name, serving_ca_name,
        },
        connection::{
            Draw, KEY_BYTES, KEY_ENTRY, LOCAL_KEY, PASSWORD_ENTRY, Publication, ROOT_PASSWORD, connection_secret,
            published, shown,
        },
        identity::Identity,
    },
    sensitive::Sensitive,
    settings::Settings,
};

/// Characters of a drawn password: 32 of 62 are 190 bits.
const PASSWORD_CHARACTERS: usize = 32;

pub(super) struct Secrets<'a> {
    pub(super) writer: &'a mut Writer,
    pub(super) identity: &'a Identity,
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
}

impl Secrets<'_> {
    /// Brings every certificate up to date, CAs first. Answers what clients are to trust; nothing while they have to wait
    /// for an issuer.
    pub(super) async fn certificates(&mut self, certificates: Certificates) -> Result<Option<Trust>, ApplyError> {
        // The last two are for the status and for the next reconcile.
        let Certificates { internal_ca, serving, internal, operator_client, rotations: _, next: _ } = certificates;
        let id = self.identity.cluster_id.clone();
        let custody = self.settings.operator_namespace.clone();
        let data_plane = self.identity.namespace.clone();
        let internal_ca = self.authority(&internal_ca_name(&id), internal_ca).await?;
        let trust = match serving {
            Serving::Own(own) => {
                let Own { ca, leaf, client, hitch: _ } = *own;
                let ca = self.authority(&serving_ca_name(&id), ca).await?;
                self.leaf(&data_plane, SERVING_TLS, leaf, &ca).await?;
                if let Some(client) = client {
                    self.leaf(&custody, &client_name(&id), client, &ca).await?;
                }
                Some(Trust::Certificates(ca.authority))
            }
            Serving::Issued(issued) => issued.trust().cloned(),
        };
        self.leaf(&data_plane, INTERNAL_TLS, internal, &internal_ca).await?;
        self.leaf(&custody, &operator_client_name(&id), operator_client, &internal_ca).await?;
        Ok(trust)
    }

    /// Draws the master key of a development cluster, once.
    pub(super) async fn local_key(&mut self, draw: Option<Draw>) -> Result<(), ApplyError> {
        if draw != Some(Draw::Create) {
            return Ok(());
        }
        let mut key = vec![0; KEY_BYTES];
        OsRng.try_fill_bytes(&mut key).map_err(|_| ApplyError::Random)?;
        let secret = self.opaque(LOCAL_KEY, KEY_ENTRY, key);
        self.create_only(&secret, LOCAL_KEY).await
    }

    /// Draws the initial password, once. Answers it.
    pub(super) async fn root_password(&mut self, draw: Draw, observed: &Observed) -> Result<Sensitive, ApplyError> {
        if draw == Draw::Keep {
            let children = observed.children.as_ref();
            return Ok(children
                .and_then(|children| children.root_password.as_ref())
                .and_then(|seen| seen.entry(PASSWORD_ENTRY))
                .cloned()
                .unwrap_or_else(|| Sensitive::new(Vec::new())));
        }
        let password = Sensitive::new(password()?);
        let secret = self.opaque(ROOT_PASSWORD, PASSWORD_ENTRY, password.reveal().to_vec());
        self.create_only(&secret, ROOT_PASSWORD).await?;
        Ok(password)
    }

    /// Gives the customer address, CA certificates and initial password.
    pub(super) async fn publish(
        &mut self,
        trust: &Trust,
        password: &Sensitive,
        publication: Publication,
    ) -> Result<(), ApplyError> {
        let Publication { client, refresh_client, refresh_authority } = publication;
        let namespace = self.identity.owner_namespace.clone();
        let name = connection_secret_name(&self.identity.owner_name);
        // An attempt to create what is there would count against a quota.
        if !self.writer.is_there::<Secret>(&namespace, &name).await? {
            let password = password.reveal_text().unwrap_or_default();
            let secret = connection_secret(self.identity, trust, client.as_ref(), password);
            if self.writer.create(&namespace, &secret).await? == Created::Yes {
                self.writer.note("ConnectionPublished", "the connection secret was created");
                return Ok(());
            }
        }
        for (refresh, entries, what) in [
            (refresh_authority, published(self.identity, trust), "the CA certificates"),
            (refresh_client, shown(client.as_ref()), "certificate and key for clients"),
        ] {
            if refresh {
                self.writer.merge::<Secret>(&namespace, &name, &json!({"data": entries})).await?;
                self.writer.note("ConnectionRefreshed", format!("{what} in {name} were replaced"));
            }
        }
        Ok(())
    }

    /// Brings a CA up to date. Answers what signs, with what is to be trusted beside what it signs.
    async fn authority(&mut self, name: &str, change: AuthorityChange) -> Result<TlsMaterial, ApplyError> {
        let (signer, authority, replaces, event, note) = match change {
            AuthorityChange::Keep(authority) => return Ok(authority.signer()),
            AuthorityChange::Make { request, replaces, honoured, reason } => {
                let authority = Authority::new(issue::authority(&request, self.now)?, honoured);
                let note = format!("the CA {:?} was made: {reason}", request.common_name);
                (authority.signer(), authority, replaces, "AuthorityIssued", note)
            }
            AuthorityChange::Distribute { authority, request, replaces, honoured, reason } => {
                let next = issue::authority(&request, self.now)?;
                let note = format!("a new CA {:?} was made beside the old one: {reason}", request.common_name);
                // The new one is made known once it is stored, by the next reconcile.
                (authority.signer(), authority.joined_by(next, honoured), Some(replaces), "AuthorityRotating", note)
            }
            AuthorityChange::Advance { authority, replaces, event, note } => {
                (authority.signer(), authority, Some(replaces), event, note)
            }
        };
        let namespace = self.settings.operator_namespace.clone();
        self.store(&namespace, name, authority.entries(), replaces).await?;
        self.writer.note(event, note);
        Ok(signer)
    }

    async fn leaf(
        &mut self,
        namespace: &str,
        name: &str,
        change: LeafChange,
        authority: &TlsMaterial,
    ) -> Result<(), ApplyError> {
        let (material, replaces, event, note) = match change {
            LeafChange::Keep { .. } => return Ok(()),
            LeafChange::Rebundle { material, validity: _, replaces } => {
                let note = format!("the CA certificates in {name} were replaced");
                (material, Some(replaces), "TrustReplaced", note)
            }
            LeafChange::Make { request, replaces, reason } => {
                let note = format!("the certificate in {name} was made: {reason}");
                (issue::leaf(&request, authority, self.now)?, replaces, "CertificateIssued", note)
            }
        };
        let entries = [
            ("tls.crt", material.certificate.as_bytes()),
            ("tls.key", material.key.reveal()),
            ("ca.crt", material.authority.as_bytes()),
        ];
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.to_vec())));
        self.store(namespace, name, entries.collect(), replaces).await?;
        self.writer.note(event, note);
        Ok(())
    }

    async fn store(
        &mut self,
        namespace: &str,
        name: &str,
        entries: BTreeMap<String, ByteString>,
        replaces: Option<String>,
    ) -> Result<(), ApplyError> {
        let secret = Secret {
            metadata: self.identity.meta_in(Some(namespace), name),
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(entries),
            ..Secret::default()
        };
        match replaces {
            Some(version) => self.writer.replace(namespace, secret, &version).await,
            None => self.create_only(&secret, name).await,
        }
    }

    /// Creates; if it is there already, what was observed is not true any more.
    async fn create_only(&mut self, secret: &Secret, name: &str) -> Result<(), ApplyError> {
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        match self.writer.create(&namespace, secret).await? {
            Created::Yes => Ok(()),
            Created::AlreadyThere => Err(ApplyError::Changed { kind: "Secret".to_owned(), name: name.to_owned() }),
        }
    }

    fn opaque(&self, name: &str, entry: &str, value: Vec<u8>) -> Secret {
        Secret {
            metadata: self.identity.meta(name),
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(entry.to_owned(), ByteString(value))])),
            ..Secret::default()
        }
    }
}

/// Letters and digits only: a password that survives every shell, URI and YAML file.
fn password() -> Result<Vec<u8>, ApplyError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = Vec::with_capacity(PASSWORD_CHARACTERS);
    let mut byte = [0u8; 1];
    while password.len() < PASSWORD_CHARACTERS {
        OsRng.try_fill_bytes(&mut byte).map_err(|_| ApplyError::Random)?;
        // Without the topmost values, which would favour the first letters.
        if usize::from(byte[0]) < 256 / ALPHABET.len() * ALPHABET.len() {
            password.push(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]);
        }
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_plain_and_never_the_same() {
        let first = password().expect("random bytes");
        let second = password().expect("random bytes");
        assert_eq!(first.len(), PASSWORD_CHARACTERS);
        assert!(first.iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(first, second);
    }
}
