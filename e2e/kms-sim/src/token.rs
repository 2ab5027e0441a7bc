//! Web identity tokens: JWTs that a cluster's issuer signs for service accounts.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use thiserror::Error;

/// How an issuer is described to the simulator: its URL and its keys, as a JWKS or one PEM public key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IssuerSpec {
    /// `iss` of its tokens.
    pub issuer: String,
    /// Keys as the issuer publishes them.
    pub jwks: Option<JwkSet>,
    /// One RSA or P-256 public key (`BEGIN PUBLIC KEY`).
    pub public_key_pem: Option<String>,
}

/// An issuer description that can't be used.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// Neither or both kinds of key were given.
    #[error("give either jwks or publicKeyPem for issuer {0}")]
    OneKindOfKey(String),
    /// Nothing in the JWKS can verify RS256 or ES256.
    #[error("the JWKS of issuer {0} has no RSA or P-256 key")]
    NoUsableKey(String),
    /// A key doesn't parse.
    #[error("a key of issuer {issuer} is not a usable RSA or P-256 public key")]
    BadKey {
        /// The issuer.
        issuer: String,
        /// What the parser says.
        #[source]
        source: jsonwebtoken::errors::Error,
    },
}

/// An issuer whose tokens can be verified.
pub struct Issuer {
    url: String,
    keys: Vec<VerificationKey>,
}

struct VerificationKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// What a token says.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Subject: `system:serviceaccount:NAMESPACE:NAME` for Kubernetes.
    pub sub: String,
    /// Audiences.
    pub aud: Audience,
    /// Expiry in seconds since 1970.
    pub exp: i64,
    /// Not valid before, likewise.
    pub nbf: Option<i64>,
}

/// One audience or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A single text.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Audience {
    /// The audiences.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

/// Why a token isn't accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT with the needed claims, or of another algorithm than RS256 and ES256.
    #[error("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")]
    Malformed,
    /// Signed by a key that the issuer doesn't have.
    #[error(
        "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements"
    )]
    UnknownKey,
    /// The signature is wrong.
    #[error("The web identity token signature could not be verified")]
    BadSignature,
    /// Of another issuer.
    #[error("No OpenIDConnect provider found in your account for {0}")]
    UnknownIssuer(String),
    /// Too old.
    #[error("Token expired: current date/time {now} must be before the expiration date/time {expiry}")]
    Expired {
        /// Now, seconds since 1970.
        now: i64,
        /// Its expiry.
        expiry: i64,
    },
    /// Too new.
    #[error("Token is not valid yet: current date/time {now}, not before {not_before}")]
    NotYetValid {
        /// Now, seconds since 1970.
        now: i64,
        /// Its start.
        not_before: i64,
    },
}

impl Issuer {
    /// Prepares the keys of an issuer.
    ///
    /// # Errors
    /// There is no usable key.
    pub fn new(spec: IssuerSpec) -> Result<Self, IssuerError> {
        let IssuerSpec { issuer: url, jwks, public_key_pem } = spec;
        let bad_key = |source| IssuerError::BadKey { issuer: url.clone(), source };
        let keys = match (jwks, public_key_pem) {
            (Some(jwks), None) => jwks
                .keys
                .iter()
                .filter_map(VerificationKey::from_jwk)
                .collect::<Result<Vec<_>, _>>()
                .map_err(bad_key)?,
            (None, Some(pem)) => vec![VerificationKey::from_pem(pem.as_bytes()).map_err(bad_key)?],
            _ => return Err(IssuerError::OneKindOfKey(url)),
        };
        if keys.is_empty() {
            return Err(IssuerError::NoUsableKey(url));
        }
        Ok(Self { url, keys })
    }

    /// Verifies signature, issuer and validity of a token at `now` (seconds since 1970). Audience and subject are
    /// matters of the role.
    ///
    /// # Errors
    /// What is wrong with the token.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(TokenError::Malformed);
        }
        let mut candidates = self.keys.iter().filter(|key| key.may_have_signed(&header)).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        // Validity is judged below, by the caller's clock and with an answer for each case.
        let mut signature_only = Validation::new(header.alg);
        signature_only.validate_exp = false;
        signature_only.validate_aud = false;
        signature_only.required_spec_claims.clear();
        let mut outcome = Err(TokenError::BadSignature);
        for candidate in candidates {
            match jsonwebtoken::decode::<Claims>(token, &candidate.key, &signature_only) {
                Ok(data) => {
                    outcome = Ok(data.claims);
                    break;
                }
                Err(error) if matches!(error.kind(), jsonwebtoken::errors::ErrorKind::Json(_)) => {
                    outcome = Err(TokenError::Malformed);
                }
                Err(_) => {}
            }
        }
        let claims = outcome?;
        if claims.iss != self.url {
            return Err(TokenError::UnknownIssuer(claims.iss));
        }
        if now >= claims.exp {
            return Err(TokenError::Expired { now, expiry: claims.exp });
        }
        match claims.nbf {
            Some(not_before) if now < not_before => Err(TokenError::NotYetValid { now, not_before }),
            _ => Ok(claims),
        }
    }
}

impl VerificationKey {
    /// `None` for keys of other kinds, which issuers may well publish beside those that matter.
    fn from_jwk(jwk: &Jwk) -> Option<Result<Self, jsonwebtoken::errors::Error>> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
            _ => return None,
        };
        let kid = jwk.common.key_id.clone();
        Some(DecodingKey::from_jwk(jwk).map(|key| Self { kid, algorithm, key }))
    }

    fn from_pem(pem: &[u8]) -> Result<Self, jsonwebtoken::errors::Error> {
        let rsa = DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
        let (algorithm, key) = rsa.or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)))?;
        Ok(Self { kid: None, algorithm, key })
    }

    fn may_have_signed(&self, header: &jsonwebtoken::Header) -> bool {
        let same_kid = match (&self.kid, &header.kid) {
            (Some(own), Some(claimed)) => own == claimed,
            _ => true,
        };
        same_kid && self.algorithm == header.alg
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).field("keys", &self.keys.len()).finish()
    }
}
