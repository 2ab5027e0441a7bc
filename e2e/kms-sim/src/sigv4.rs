//! Verification of AWS Signature Version 4 on requests to KMS.
//!
//! The canonical request is built here, from the request as it arrived; signing key and signature are computed by
//! `aws-sigv4` from the secret of the session that the request claims.

use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::header::{AUTHORIZATION, HeaderMap};
use http::request::Parts;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::api_error::ApiError;
use crate::session::{Session, Sessions};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "kms";
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A caller whose signature was right.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its session.
    pub session: Session,
    /// Region that the request was signed for: the region whose endpoint the caller believes to speak to.
    pub region: String,
}

/// Verifies the signature of a request and says who signed it.
///
/// # Errors
/// The answer that AWS gives to a missing, incomplete, wrong, outdated or foreign signature, to unknown credentials
/// and to expired ones.
pub fn authenticate(sessions: &Sessions, parts: &Parts, body: &[u8], now: SystemTime) -> Result<Caller, ApiError> {
    let authorization = Authorization::parse(&parts.headers)?;
    let scope = &authorization.scope;
    if scope.service != SERVICE {
        return Err(invalid(format!("Credential should be scoped to correct service: '{SERVICE}'. ")));
    }
    let session = sessions.find(scope.access_key_id).ok_or_else(unrecognized)?;
    let token = single(&parts.headers, "x-amz-security-token").unwrap_or_default();
    if !equal(token.as_bytes(), session.session_token.as_bytes()) {
        return Err(unrecognized());
    }
    if session.expires_at <= now {
        return Err(ApiError::refused(
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ));
    }
    let timestamp = single(&parts.headers, "x-amz-date").ok_or_else(|| {
        incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    })?;
    let signed_at = parse_timestamp(timestamp).ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'."))?;
    check_time(timestamp, signed_at, scope.date, now)?;
    authorization.require_signed_headers(&parts.headers)?;

    let canonical = canonical_request(parts, &authorization.signed_headers, body)?;
    let string_to_sign = format!(
        "{ALGORITHM}\n{timestamp}\n{}/{}/{SERVICE}/aws4_request\n{}",
        scope.date,
        scope.region,
        hex::encode(digest(&SHA256, canonical.as_bytes())),
    );
    let key = generate_signing_key(&session.secret_access_key, signed_at, scope.region, SERVICE);
    let expected = calculate_signature(key, string_to_sign.as_bytes());
    if !equal(expected.as_bytes(), authorization.signature.as_bytes()) {
        return Err(invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        ));
    }
    Ok(Caller { session: session.clone(), region: scope.region.to_owned() })
}

#[derive(Debug)]
struct Scope<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

#[derive(Debug)]
struct Authorization<'a> {
    scope: Scope<'a>,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let Some(text) = single(headers, AUTHORIZATION.as_str()) else {
            return Err(ApiError::refused("MissingAuthenticationTokenException", "Missing Authentication Token"));
        };
        let Some((ALGORITHM, fields)) = text.split_once(' ') else {
            return Err(incomplete(format!("Authorization header must begin with {ALGORITHM}.")));
        };
        let mut found = [None; 3];
        let names = ["Credential", "SignedHeaders", "Signature"];
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(|| {
                incomplete("Authorization header consists of 'name=value' pairs separated by commas.")
            })?;
            let slot = names.iter().position(|known| *known == name);
            match slot.and_then(|slot| found.get_mut(slot)) {
                Some(slot @ None) => *slot = Some(value),
                _ => return Err(incomplete("Authorization header has an unknown or repeated parameter.")),
            }
        }
        let [Some(credential), Some(signed_headers), Some(signature)] = found else {
            let missing = names.iter().zip(found).find(|(_, value)| value.is_none()).map_or("", |(name, _)| name);
            return Err(incomplete(format!("Authorization header requires '{missing}' parameter.")));
        };
        let [access_key_id, date, region, service, "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..]
        else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/aws4_request.",
            ));
        };
        Ok(Self {
            scope: Scope { access_key_id, date, region, service },
            signed_headers: signed_headers.split(';').collect(),
            signature,
        })
    }

    /// The host and everything that AWS acts upon must be covered by the signature.
    fn require_signed_headers(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let names = headers.keys().map(http::HeaderName::as_str);
        let mut needed = names.filter(|name| *name == "host" || name.starts_with("x-amz-"));
        let sorted = self.signed_headers.windows(2).all(|pair| pair[0] < pair[1]);
        let unsigned = needed.find(|name| !self.signed_headers.contains(name));
        match unsigned {
            Some(name) => Err(invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."))),
            None if !self.signed_headers.contains(&"host") => {
                Err(invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."))
            }
            None if !sorted => Err(invalid("SignedHeaders must be sorted and unique.")),
            None => Ok(()),
        }
    }
}

fn canonical_request(parts: &Parts, signed_headers: &[&str], body: &[u8]) -> Result<String, ApiError> {
    let payload_hash = hex::encode(digest(&SHA256, body));
    if let Some(claimed) = single(&parts.headers, "x-amz-content-sha256")
        && claimed != payload_hash
    {
        return Err(invalid("The provided 'x-amz-content-sha256' header does not match what was computed."));
    }
    let mut canonical = format!("{}\n{}\n{}\n", parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
    for name in signed_headers {
        let mut values = Vec::new();
        for value in parts.headers.get_all(*name) {
            let text = value.to_str().map_err(|_| invalid(format!("Header '{name}' is not ASCII.")))?;
            values.push(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
        if values.is_empty() {
            return Err(invalid(format!("The signed header '{name}' is not in the request.")));
        }
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    canonical.push_str(&format!("\n{}\n{payload_hash}", signed_headers.join(";")));
    Ok(canonical)
}

fn check_time(timestamp: &str, signed_at: SystemTime, scope_date: &str, now: SystemTime) -> Result<(), ApiError> {
    if !timestamp.starts_with(scope_date) || scope_date.len() != 8 {
        return Err(invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.",
        ));
    }
    if signed_at + CLOCK_SKEW < now {
        return Err(invalid(format!("Signature expired: {timestamp} is more than 5 minutes old.")));
    }
    if signed_at > now + CLOCK_SKEW {
        return Err(invalid(format!("Signature not yet current: {timestamp} is more than 5 minutes ahead.")));
    }
    Ok(())
}

fn parse_timestamp(text: &str) -> Option<SystemTime> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

/// The value of a header that occurs exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

fn incomplete(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::refused("IncompleteSignatureException", message)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::refused("InvalidSignatureException", message)
}

fn unrecognized() -> ApiError {
    ApiError::refused("UnrecognizedClientException", "The security token included in the request is invalid.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(authorization: Option<&str>) -> &'static str {
        let mut request = http::Request::post("/");
        if let Some(text) = authorization {
            request = request.header(AUTHORIZATION, text);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        authenticate(&Sessions::default(), &parts, b"{}", SystemTime::now()).unwrap_err().code
    }

    #[test]
    fn unusable_authorization_headers_get_the_answer_of_aws() {
        assert_eq!(code(None), "MissingAuthenticationTokenException");
        for text in [
            "Bearer abc",
            "AWS4-HMAC-SHA256 Credential",
            "AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/kms/aws4_request",
            "AWS4-HMAC-SHA256 Credential=A/20260101/kms/aws4_request, SignedHeaders=host, Signature=00",
            "AWS4-HMAC-SHA256 Signature=00, Signature=00, SignedHeaders=host",
        ] {
            assert_eq!(code(Some(text)), "IncompleteSignatureException", "{text}");
        }
        let scoped = |service: &str| {
            format!(
                "{ALGORITHM} Credential=A/20260101/eu-central-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
            )
        };
        assert_eq!(code(Some(&scoped("sts"))), "InvalidSignatureException");
        assert_eq!(code(Some(&scoped("kms"))), "UnrecognizedClientException");
    }

    #[test]
    fn signatures_age() {
        let at = parse_timestamp("20261126T104058Z").unwrap();
        let check = |now| check_time("20261126T104058Z", at, "20261126", now);
        assert!(check(at + CLOCK_SKEW).is_ok());
        assert!(check(at + CLOCK_SKEW + Duration::from_secs(1)).is_err());
        assert!(check(at - CLOCK_SKEW - Duration::from_secs(1)).is_err());
        assert!(check_time("20261126T104058Z", at, "20261125", at).is_err());
    }
}
