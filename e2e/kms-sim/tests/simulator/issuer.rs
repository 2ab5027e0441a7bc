//! A token issuer: what a cluster's API server is to STS.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

pub(crate) const URL: &str = "https://kubernetes.default.svc";
pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";
pub(crate) const SUBJECT: &str = "system:serviceaccount:vk-vc1:engine";

pub(crate) struct Issuer {
    key: KeyPair,
    algorithm: Algorithm,
}

impl Issuer {
    pub(crate) fn es256() -> Self {
        Self { key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), algorithm: Algorithm::ES256 }
    }

    pub(crate) fn rs256() -> Self {
        Self {
            key: KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
            algorithm: Algorithm::RS256,
        }
    }

    /// The description that the control endpoint takes, with a PEM key.
    pub(crate) fn as_pem(&self) -> Value {
        json!({"issuer": URL, "publicKeyPem": self.key.public_key_pem()})
    }

    /// The same with a JWKS, as an API server publishes it, beside a key of a kind that doesn't matter.
    pub(crate) fn as_jwks(&self, kid: &str) -> Value {
        let mut key = serde_json::to_value(
            jsonwebtoken::jwk::Jwk::from_encoding_key(&self.encoding_key(), self.algorithm).unwrap(),
        )
        .unwrap();
        key["kid"] = json!(kid);
        let other = json!({"kty": "oct", "kid": "other", "k": "AAAA"});
        json!({"issuer": URL, "jwks": {"keys": [other, key]}})
    }

    /// A good token of the engine's service account.
    pub(crate) fn token(&self) -> String {
        self.token_with(json!({}))
    }

    /// A token with some claims changed.
    pub(crate) fn token_with(&self, changes: Value) -> String {
        self.sign(None, changes)
    }

    pub(crate) fn token_of_key(&self, kid: &str) -> String {
        self.sign(Some(kid), json!({}))
    }

    fn sign(&self, kid: Option<&str>, changes: Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": URL, "sub": SUBJECT, "aud": [AUDIENCE], "iat": now, "nbf": now - 1, "exp": now + 3600,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, &claims, &self.encoding_key()).unwrap()
    }

    fn encoding_key(&self) -> EncodingKey {
        let pem = self.key.serialize_pem();
        match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
        }
    }
}
