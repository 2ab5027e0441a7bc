//! The bodies of KMS requests. Limits are those of the KMS API reference.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::key::EncryptionContext;

const MAX_KEY_ID: usize = 2048;
const MAX_CONTEXT: usize = 8192;
const MAX_CIPHERTEXT: usize = 6144;
const MAX_DATA_KEY: u64 = 1024;

/// A `GenerateDataKey` request.
#[derive(Debug)]
pub(super) struct GenerateDataKeyRequest {
    pub(super) key_id: String,
    pub(super) length: usize,
    pub(super) encryption_context: EncryptionContext,
    pub(super) dry_run: bool,
}

/// A `Decrypt` request.
#[derive(Debug)]
pub(super) struct DecryptRequest {
    pub(super) key_id: Option<String>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) encryption_context: EncryptionContext,
    pub(super) dry_run: bool,
}

/// A `DescribeKey` request.
#[derive(Debug)]
pub(super) struct DescribeKeyRequest {
    pub(super) key_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GenerateDataKeyBody {
    key_id: Option<String>,
    number_of_bytes: Option<u64>,
    key_spec: Option<String>,
    #[serde(default)]
    encryption_context: EncryptionContext,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DecryptBody {
    key_id: Option<String>,
    ciphertext_blob: Option<String>,
    encryption_algorithm: Option<String>,
    #[serde(default)]
    encryption_context: EncryptionContext,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeKeyBody {
    key_id: Option<String>,
}

impl GenerateDataKeyRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: GenerateDataKeyBody = read(body)?;
        let length = match (body.number_of_bytes, body.key_spec.as_deref()) {
            (Some(bytes @ 1..=MAX_DATA_KEY), None) => usize::try_from(bytes).unwrap_or_default(),
            (None, Some("AES_256")) => 32,
            (None, Some("AES_128")) => 16,
            (Some(bytes), None) => {
                return Err(validation(format!("NumberOfBytes is {bytes}, but must be between 1 and {MAX_DATA_KEY}")));
            }
            (None, Some(_)) => return Err(validation("KeySpec must be one of AES_256, AES_128")),
            _ => return Err(validation("Please specify either number of bytes or key spec.")),
        };
        check_context(&body.encryption_context)?;
        Ok(Self {
            key_id: required_key_id(body.key_id)?,
            length,
            encryption_context: body.encryption_context,
            dry_run: body.dry_run,
        })
    }

    /// What the access log shows.
    pub(super) fn parameters(&self) -> Value {
        json!({
            "keyId": self.key_id,
            "numberOfBytes": self.length,
            "encryptionContext": self.encryption_context,
        })
    }
}

impl DecryptRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: DecryptBody = read(body)?;
        if body.encryption_algorithm.is_some_and(|algorithm| algorithm != "SYMMETRIC_DEFAULT") {
            return Err(validation("EncryptionAlgorithm must be SYMMETRIC_DEFAULT for a symmetric key"));
        }
        let blob = body.ciphertext_blob.ok_or_else(|| null("ciphertextBlob"))?;
        let ciphertext = STANDARD.decode(blob).map_err(|_| serialization("CiphertextBlob is not base64"))?;
        if ciphertext.is_empty() || ciphertext.len() > MAX_CIPHERTEXT {
            return Err(validation(format!(
                "CiphertextBlob has {} bytes, but must have between 1 and {MAX_CIPHERTEXT}",
                ciphertext.len()
            )));
        }
        check_context(&body.encryption_context)?;
        let key_id = body.key_id.map(|key_id| required_key_id(Some(key_id))).transpose()?;
        Ok(Self { key_id, ciphertext, encryption_context: body.encryption_context, dry_run: body.dry_run })
    }

    /// What the access log shows.
    pub(super) fn parameters(&self) -> Value {
        let mut parameters = json!({
            "encryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "encryptionContext": self.encryption_context,
        });
        if let Some(key_id) = &self.key_id {
            parameters["keyId"] = json!(key_id);
        }
        parameters
    }
}

impl DescribeKeyRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: DescribeKeyBody = read(body)?;
        Ok(Self { key_id: required_key_id(body.key_id)? })
    }
}

/// Unknown members are refused, so a request that asks for grants or enclaves isn't served as if it hadn't.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // The parser's own message may quote the request; only the place is passed on.
        serialization(format!("the body is not a request that is supported (column {})", error.column()))
    })
}

fn required_key_id(key_id: Option<String>) -> Result<String, ApiError> {
    let key_id = key_id.ok_or_else(|| null("keyId"))?;
    if key_id.is_empty() || key_id.len() > MAX_KEY_ID {
        return Err(validation(format!("KeyId must have between 1 and {MAX_KEY_ID} characters")));
    }
    Ok(key_id)
}

fn check_context(context: &EncryptionContext) -> Result<(), ApiError> {
    let size: usize = context.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_CONTEXT {
        return Err(validation(format!("EncryptionContext has {size} bytes, but may have {MAX_CONTEXT}")));
    }
    Ok(())
}

fn null(member: &str) -> ApiError {
    validation(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
    ))
}

fn validation(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::refused("ValidationException", message)
}

fn serialization(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::refused("SerializationException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_outside_the_limits_are_refused() {
        let long = "x".repeat(MAX_CONTEXT + 1);
        for (body, code) in [
            (json!({"NumberOfBytes": 32}), "ValidationException"),
            (json!({"KeyId": "k"}), "ValidationException"),
            (json!({"KeyId": "k", "NumberOfBytes": 0}), "ValidationException"),
            (json!({"KeyId": "k", "NumberOfBytes": 1025}), "ValidationException"),
            (json!({"KeyId": "k", "NumberOfBytes": 32, "KeySpec": "AES_256"}), "ValidationException"),
            (json!({"KeyId": "k", "KeySpec": "AES_512"}), "ValidationException"),
            (json!({"KeyId": "", "NumberOfBytes": 32}), "ValidationException"),
            (json!({"KeyId": "k", "NumberOfBytes": 32, "EncryptionContext": {"a": long}}), "ValidationException"),
            (json!({"KeyId": "k", "NumberOfBytes": 32, "EncryptionContext": {"a": 1}}), "SerializationException"),
            (json!({"KeyId": "k", "NumberOfBytes": 32, "GrantTokens": ["t"]}), "SerializationException"),
        ] {
            let error = GenerateDataKeyRequest::parse(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{body}");
        }
        for body in [json!({"CiphertextBlob": ""}), json!({}), json!({"CiphertextBlob": "AA==", "KeyId": ""})] {
            let error = DecryptRequest::parse(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.code, "ValidationException", "{body}");
        }
    }
}
