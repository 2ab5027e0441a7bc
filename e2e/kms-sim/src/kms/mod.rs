//! The KMS operations that VectorKeep may use: `GenerateDataKey`, `Decrypt` and `DescribeKey`.
//!
//! A request is checked in this order: well-formed, key exists in the region that the request was signed for, key
//! policy, key state, key usage, ciphertext. So a caller without rights learns nothing about a key's state.

mod request;

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use rand::RngCore;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::access_log::Event;
use crate::api_error::ApiError;
use crate::arn::KeyArn;
use crate::key::{Blob, EncryptionContext, Key, KeyState, KeyUsage};
use crate::policy::{AccessRequest, Decision};
use crate::sigv4::Caller;
use crate::simulator::World;
use request::{DecryptRequest, DescribeKeyRequest, GenerateDataKeyRequest};

/// Serves one authenticated request; fills in the event as it goes.
///
/// # Errors
/// The refusal that AWS would give.
pub fn serve(
    world: &mut World,
    caller: &Caller,
    operation: &str,
    body: &[u8],
    wrong_plaintext: bool,
    event: &mut Event,
) -> Result<Value, ApiError> {
    let mut call = Call { world, caller, wrong_plaintext, event };
    match operation {
        "GenerateDataKey" => call.generate_data_key(body),
        "Decrypt" => call.decrypt(body),
        "DescribeKey" => call.describe_key(body),
        other => Err(ApiError::refused(
            "UnsupportedOperationException",
            format!("the simulator serves GenerateDataKey, Decrypt and DescribeKey, not {other}"),
        )),
    }
}

struct Call<'a> {
    world: &'a mut World,
    caller: &'a Caller,
    wrong_plaintext: bool,
    event: &'a mut Event,
}

impl Call<'_> {
    fn generate_data_key(&mut self, body: &[u8]) -> Result<Value, ApiError> {
        let request = GenerateDataKeyRequest::parse(body)?;
        self.event.request_parameters(request.parameters());
        let context = request.encryption_context;
        let key = self.usable_key(&request.key_id, "GenerateDataKey", &context)?;
        if request.dry_run {
            return Err(dry_run());
        }
        let plaintext = random_bytes(request.length);
        let (blob, material) = key.seal(&plaintext, &context).map_err(|_| internal())?;
        let arn = key.arn.to_string();
        self.event.key_material(&material);
        let answered = self.answered(plaintext);
        Ok(json!({
            "KeyId": arn,
            "CiphertextBlob": STANDARD.encode(blob),
            "Plaintext": STANDARD.encode(answered.as_slice()),
            "KeyMaterialId": material,
        }))
    }

    fn decrypt(&mut self, body: &[u8]) -> Result<Value, ApiError> {
        let request = DecryptRequest::parse(body)?;
        self.event.request_parameters(request.parameters());
        let context = &request.encryption_context;
        let blob = Blob::parse(&request.ciphertext);
        let key = match (&request.key_id, &blob) {
            (Some(key_id), _) => self.usable_key(key_id, "Decrypt", context)?,
            (None, Some(blob)) => {
                let exists = self.world.keys.get(blob.key_id).is_some_and(|key| key.arn.region == self.caller.region);
                if !exists {
                    return Err(ApiError::refused(
                        "AccessDeniedException",
                        "The ciphertext refers to a customer master key that does not exist, does not exist in this \
                         region, or you are not allowed to access.",
                    ));
                }
                self.usable_key_by_id(blob.key_id, "Decrypt", context)?
            }
            (None, None) => return Err(invalid_ciphertext()),
        };
        let blob = blob.ok_or_else(invalid_ciphertext)?;
        if blob.key_id != key.arn.key_id {
            return Err(ApiError::refused(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            ));
        }
        let (plaintext, material) = key.open(&blob, context).map_err(|_| invalid_ciphertext())?;
        if request.dry_run {
            return Err(dry_run());
        }
        let arn = key.arn.to_string();
        self.event.key_material(&material);
        let answered = self.answered(plaintext);
        Ok(json!({
            "KeyId": arn,
            "Plaintext": STANDARD.encode(answered.as_slice()),
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "KeyMaterialId": material,
        }))
    }

    fn describe_key(&mut self, body: &[u8]) -> Result<Value, ApiError> {
        let request = DescribeKeyRequest::parse(body)?;
        self.event.request_parameters(json!({"keyId": request.key_id}));
        let id = self.find(&request.key_id)?;
        let key = self.permitted_key(&id, "DescribeKey", &EncryptionContext::new())?;
        let state = key.current_state(Instant::now());
        let encrypts = key.usage == KeyUsage::EncryptDecrypt;
        let mut metadata = json!({
            "AWSAccountId": key.arn.account,
            "Arn": key.arn.to_string(),
            "KeyId": key.arn.key_id,
            "CreationDate": key.created.as_second(),
            "Description": "",
            "Enabled": state == KeyState::Enabled,
            "KeyManager": "CUSTOMER",
            "KeyState": state,
            "KeyUsage": key.usage,
            "MultiRegion": false,
            "Origin": "AWS_KMS",
        });
        if encrypts {
            metadata["KeySpec"] = json!("SYMMETRIC_DEFAULT");
            metadata["CustomerMasterKeySpec"] = json!("SYMMETRIC_DEFAULT");
            metadata["EncryptionAlgorithms"] = json!(["SYMMETRIC_DEFAULT"]);
        }
        Ok(json!({"KeyMetadata": metadata}))
    }

    /// The key under the name that the caller used, if the caller may use it like this and it is in order.
    fn usable_key(&mut self, name: &str, operation: &str, context: &EncryptionContext) -> Result<&mut Key, ApiError> {
        let id = self.find(name)?;
        self.usable_key_by_id(&id, operation, context)
    }

    fn usable_key_by_id(
        &mut self,
        id: &str,
        operation: &str,
        context: &EncryptionContext,
    ) -> Result<&mut Key, ApiError> {
        let key = self.permitted_key(id, operation, context)?;
        match key.current_state(Instant::now()) {
            KeyState::Enabled => {}
            KeyState::Disabled => {
                return Err(ApiError::refused("DisabledException", format!("{} is disabled.", key.arn)));
            }
            KeyState::PendingDeletion => {
                return Err(ApiError::refused("KMSInvalidStateException", format!("{} is pending deletion.", key.arn)));
            }
        }
        if key.usage != KeyUsage::EncryptDecrypt {
            let usage = key.usage.as_str();
            return Err(ApiError::refused(
                "InvalidKeyUsageException",
                format!("{} key usage is {usage} which is not valid for {operation}.", key.arn),
            ));
        }
        Ok(key)
    }

    fn permitted_key(&mut self, id: &str, operation: &str, context: &EncryptionContext) -> Result<&mut Key, ApiError> {
        let session = &self.caller.session;
        let session_arn = session.arn();
        let action = format!("kms:{operation}");
        let key = self.world.keys.get_mut(id).ok_or_else(|| not_found(format!("Key '{id}' does not exist")))?;
        self.event.resource(&key.arn);
        let decision = key.policy.at(Instant::now()).decide(&AccessRequest {
            role: &session.role,
            session_arn: &session_arn,
            action: &action,
            key: &key.arn,
            context,
        });
        let reason = match decision {
            Decision::Allowed => return Ok(key),
            Decision::ExplicitlyDenied => "with an explicit deny in a resource-based policy".to_owned(),
            Decision::NotAllowed => format!("because no resource-based policy allows the {action} action"),
        };
        Err(ApiError::refused(
            "AccessDeniedException",
            format!("User: {session_arn} is not authorized to perform: {action} on resource: {} {reason}", key.arn),
        ))
    }

    /// Id of the key that a name means: an ARN, or the id of a key of the caller's own account; always in the region
    /// that the request was signed for.
    fn find(&self, name: &str) -> Result<String, ApiError> {
        let region = &self.caller.region;
        let (id, account) = if name.starts_with("arn:") {
            let Ok(arn) = KeyArn::parse(name) else {
                return Err(match name.split_once(":alias/") {
                    Some(_) => not_found(format!("Alias {name} is not found.")),
                    None => ApiError::refused("InvalidArnException", format!("Invalid arn: {name}")),
                });
            };
            if arn.region != *region {
                return Err(not_found(format!("Invalid arn {}", arn.region)));
            }
            (arn.key_id, arn.account)
        } else {
            (name.to_owned(), self.caller.session.role.account.clone())
        };
        let found = self.world.keys.get(&id).is_some_and(|key| {
            let asked_by_arn = !name.starts_with("arn:") || key.arn.to_string() == name;
            asked_by_arn && key.arn.account == account && key.arn.region == *region
        });
        if found {
            Ok(id)
        } else {
            Err(not_found(format!("Key 'arn:aws:kms:{region}:{account}:key/{id}' does not exist")))
        }
    }

    /// The plaintext to answer: the right one, unless a fault replaces it.
    fn answered(&mut self, plaintext: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        if !self.wrong_plaintext {
            return plaintext;
        }
        self.event.injected_wrong_plaintext();
        random_bytes(plaintext.len())
    }
}

fn random_bytes(length: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn not_found(message: String) -> ApiError {
    ApiError::refused("NotFoundException", message)
}

fn invalid_ciphertext() -> ApiError {
    ApiError { code: "InvalidCiphertextException", message: None, status: StatusCode::BAD_REQUEST }
}

fn dry_run() -> ApiError {
    ApiError::refused("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
        .with_status(StatusCode::PRECONDITION_FAILED)
}

/// The answer to a failure that is not the caller's.
#[must_use]
pub fn internal() -> ApiError {
    ApiError::refused("KMSInternalException", "KMS failed to process the request; try again.")
        .with_status(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The answer to too many requests.
#[must_use]
pub fn throttled() -> ApiError {
    ApiError::refused(
        "ThrottlingException",
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
    )
}
