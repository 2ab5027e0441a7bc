//! What an AWS error says about the key.
//!
//! Messages are our own: those of AWS name principals, accounts and keys. The request id is kept, because the customer
//! can find the call in the audit trail by it.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error;

use super::transport::innermost;
use crate::kms::KmsError;

/// Codes by which KMS and STS say that they themselves are in trouble, or busy.
const UNREACHABLE: &[&str] = &[
    "DependencyTimeoutException",
    "IDPCommunicationError",
    "InternalFailure",
    "InternalServerError",
    "KMSInternalException",
    "KeyUnavailableException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

/// Codes by which KMS says that what we stored is not what it once gave us.
const INVALID: &[&str] =
    &["IncorrectKeyException", "InvalidCiphertextException", "InvalidKeyUsageException", "ValidationException"];

/// Codes by which KMS rejects the session, not the role: worth one fresh session.
const STALE_SESSION: &[&str] =
    &["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"];

/// Whether the session's credentials were rejected rather than the principal behind them.
pub(crate) fn is_stale_session<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    error.as_service_error().and_then(ProvideErrorMetadata::code).is_some_and(|code| STALE_SESSION.contains(&code))
}

/// The failure of `call` (`Decrypt`, …) in our terms.
pub(crate) fn classify<E>(call: &str, error: &SdkError<E, HttpResponse>) -> KmsError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let code = context.err().code().unwrap_or("unknown error");
            by_code(call, code, status, request_id(context.raw()))
        }
        SdkError::TimeoutError(_) => {
            KmsError::unreachable(format!("{call} got no answer in time; check the network path to the endpoint"))
        }
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().map(|error| innermost(error)).unwrap_or_default();
            KmsError::unreachable(format!(
                "{call} could not be sent ({cause}); check the network path to the endpoint and its certificate"
            ))
        }
        // An answer arrived that is none. By status: a broken proxy in front of the service is no word on the key.
        SdkError::ResponseError(context) if context.raw().status().as_u16() == 200 => {
            KmsError::invalid(format!("the answer to {call} can't be read"))
        }
        SdkError::ResponseError(_) => KmsError::unreachable(format!(
            "the answer to {call} did not come whole; check the network path to the endpoint"
        )),
        _ => KmsError::unreachable(format!("{call} could not be made")),
    }
}

fn by_code(call: &str, code: &str, status: u16, request: &str) -> KmsError {
    let told = |advice: &str| format!("{call}: {code} (request {request}); {advice}");
    if INVALID.contains(&code) {
        return KmsError::invalid(told(
            "the stored key was not wrapped by the configured key for this cluster and zone",
        ));
    }
    if UNREACHABLE.contains(&code) || status >= 500 || status == 429 {
        return KmsError::unreachable(told("the service is in trouble or busy; nothing to do here"));
    }
    // Everything else is the service saying no. An unknown code counts as that, too: the safe side is to lock.
    let advice = match code {
        "DisabledException" => "the key is disabled; enable it",
        "KMSInvalidStateException" => {
            "the key is not in a usable state, for example pending deletion; cancel the deletion and enable it"
        }
        "NotFoundException" => "the key does not exist in this account and region; check the key ARN",
        "AccessDenied" | "AccessDeniedException" => {
            "access is denied; compare the key policy and the role's trust policy with `kubectl vectorkeep key-policy`"
        }
        "InvalidIdentityToken" | "InvalidIdentityTokenException" | "IDPRejectedClaim" => {
            "the identity token was rejected; register the cluster's issuer as identity provider of the account"
        }
        "ExpiredToken" | "ExpiredTokenException" => {
            "the token is expired; check the clock of the node and that the token volume is refreshed"
        }
        "RegionDisabledException" => "the region is not enabled for the account; enable it",
        _ => "the request was refused; see the audit trail of the account",
    };
    KmsError::refused(told(advice))
}

fn request_id(response: &HttpResponse) -> &str {
    let id = response
        .headers()
        .get("x-amzn-requestid")
        .or_else(|| response.headers().get("x-amz-request-id"))
        .unwrap_or("unknown");
    // It goes into a status: only what an id is made of, and not more than one.
    let sane = id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if sane { id } else { "unknown" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::KmsErrorKind::{self, Invalid, Refused, Unreachable};

    #[test]
    fn every_code_has_the_meaning_that_the_design_gives_it() {
        let cases: &[(&str, u16, KmsErrorKind)] = &[
            ("DisabledException", 400, Refused),
            ("KMSInvalidStateException", 400, Refused),
            ("NotFoundException", 400, Refused),
            ("AccessDeniedException", 400, Refused),
            ("AccessDenied", 403, Refused),
            ("InvalidIdentityToken", 400, Refused),
            ("ExpiredTokenException", 400, Refused),
            ("SomethingNew", 400, Refused),
            ("ThrottlingException", 400, Unreachable),
            ("KMSInternalException", 500, Unreachable),
            ("SomethingNew", 503, Unreachable),
            ("IDPCommunicationError", 400, Unreachable),
            ("InvalidCiphertextException", 400, Invalid),
            ("IncorrectKeyException", 400, Invalid),
        ];
        for (code, status, kind) in cases {
            let error = by_code("Decrypt", code, *status, "id");
            assert_eq!(error.kind, *kind, "{code} {status}");
            assert!(error.message.contains(code));
        }
    }
}
