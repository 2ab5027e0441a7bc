//! STS `AssumeRoleWithWebIdentity`: the query protocol, answered in XML.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::json;

use crate::access_log::{Event, whole_seconds};
use crate::api_error::ApiError;
use crate::arn::RoleArn;
use crate::policy::pattern;
use crate::session::Session;
use crate::simulator::{Role, World};
use crate::token::{Claims, TokenError};

const API_VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const DEFAULT_LIFETIME: u64 = 3600;

/// The parameters of a query-protocol request.
#[derive(Debug)]
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads a form body.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Self {
        Self { pairs: form_urlencoded::parse(body).collect() }
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name)
            .ok_or_else(|| validation(format!("1 validation error detected: Value null at '{name}' must not be null")))
    }
}

/// Serves one request; fills in the event as it goes. `lifetime`, if given, replaces the one asked for.
///
/// # Errors
/// The refusal that AWS would give.
pub fn serve(
    world: &mut World,
    query: &Query<'_>,
    lifetime: Option<Duration>,
    request_id: &str,
    event: &mut Event,
) -> Result<String, ApiError> {
    let action = query.get("Action").unwrap_or_default();
    if query.get("Version") != Some(API_VERSION) || action != "AssumeRoleWithWebIdentity" {
        return Err(ApiError::refused(
            "InvalidAction",
            format!("the simulator serves AssumeRoleWithWebIdentity of version {API_VERSION}, not {action}"),
        ));
    }
    let role_arn = query.required("RoleArn")?;
    let session_name = query.required("RoleSessionName")?;
    let token = query.required("WebIdentityToken")?;
    let seconds = query.get("DurationSeconds").map_or(Ok(DEFAULT_LIFETIME), duration_seconds)?;
    event.request_parameters(json!({
        "roleArn": role_arn,
        "roleSessionName": session_name,
        "durationSeconds": seconds,
    }));
    check_session_name(session_name)?;
    let unsupported = ["Policy", "ProviderId", "PolicyArns.member.1.arn"];
    if let Some(name) = unsupported.iter().find(|name| query.get(name).is_some()) {
        return Err(validation(format!("the simulator does not support {name}")));
    }
    let role_arn = RoleArn::parse(role_arn).map_err(|error| validation(error.to_string()))?;

    let claims = verify(world, token)?;
    let World { roles, sessions, .. } = world;
    let role = roles.values().find(|role| role.arn == role_arn).ok_or_else(not_authorized)?;
    event.web_identity(&claims.iss, &role.trust.audience, &claims.sub);
    check_trust(role, &claims)?;
    let lifetime = lifetime.unwrap_or(Duration::from_secs(seconds));
    let session = sessions.open(&role.arn, &role.id, session_name, &claims.iss, SystemTime::now(), lifetime);
    let expiration = expiration(&session)?;
    event.response_elements(json!({
        "credentials": {"accessKeyId": session.access_key_id, "expiration": expiration},
        "subjectFromWebIdentityToken": claims.sub,
        "assumedRoleUser": {"assumedRoleId": session.principal_id(), "arn": session.arn()},
        "provider": claims.iss,
        "audience": role.trust.audience,
    }));
    Ok(answer(&session, &claims, &role.trust.audience, &expiration, request_id))
}

fn verify(world: &World, token: &str) -> Result<Claims, ApiError> {
    let now = jiff::Timestamp::now().as_second();
    let issuer = world
        .issuer
        .as_ref()
        .ok_or_else(|| ApiError::refused("InvalidIdentityToken", "No OpenIDConnect provider found in your account"))?;
    issuer.verify(token, now).map_err(|error| {
        let code = match error {
            TokenError::Expired { .. } => "ExpiredTokenException",
            _ => "InvalidIdentityToken",
        };
        ApiError::refused(code, error.to_string())
    })
}

fn check_trust(role: &Role, claims: &Claims) -> Result<(), ApiError> {
    let trust = &role.trust;
    if trust.issuer != claims.iss {
        return Err(not_authorized());
    }
    if !claims.aud.as_slice().contains(&trust.audience) {
        return Err(ApiError::refused("InvalidIdentityToken", "Incorrect token audience"));
    }
    if !trust.subjects.iter().any(|subject| pattern::matches(subject, &claims.sub)) {
        return Err(not_authorized());
    }
    Ok(())
}

fn duration_seconds(text: &str) -> Result<u64, ApiError> {
    let seconds = text.parse().ok().filter(|seconds| (900..=43_200).contains(seconds));
    seconds.ok_or_else(|| validation("DurationSeconds must be between 900 and 43200"))
}

fn check_session_name(name: &str) -> Result<(), ApiError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if (2..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(validation("RoleSessionName must have 2 to 64 letters, digits and characters of _+=,.@-"))
}

fn expiration(session: &Session) -> Result<String, ApiError> {
    let time = jiff::Timestamp::try_from(session.expires_at).map_err(|_| internal())?;
    Ok(whole_seconds(time))
}

fn answer(session: &Session, claims: &Claims, audience: &str, expiration: &str, request_id: &str) -> String {
    let element = |name: &str, text: &str| format!("<{name}>{}</{name}>", escape(text));
    [
        format!("<AssumeRoleWithWebIdentityResponse xmlns=\"{NAMESPACE}\"><AssumeRoleWithWebIdentityResult>"),
        element("SubjectFromWebIdentityToken", &claims.sub),
        element("Audience", audience),
        element("Provider", &claims.iss),
        "<AssumedRoleUser>".to_owned(),
        element("Arn", &session.arn()),
        element("AssumedRoleId", &session.principal_id()),
        "</AssumedRoleUser><Credentials>".to_owned(),
        element("AccessKeyId", &session.access_key_id),
        element("SecretAccessKey", &session.secret_access_key),
        element("SessionToken", &session.session_token),
        element("Expiration", expiration),
        "</Credentials></AssumeRoleWithWebIdentityResult><ResponseMetadata>".to_owned(),
        element("RequestId", request_id),
        "</ResponseMetadata></AssumeRoleWithWebIdentityResponse>".to_owned(),
    ]
    .concat()
}

/// The body of an error answer.
#[must_use]
pub fn error_body(error: &ApiError, request_id: &str) -> String {
    let kind = if error.status.is_server_error() { "Receiver" } else { "Sender" };
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{}</RequestId></ErrorResponse>",
        error.code,
        escape(error.message.as_deref().unwrap_or_default()),
        escape(request_id),
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn not_authorized() -> ApiError {
    ApiError::refused("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        .with_status(StatusCode::FORBIDDEN)
}

fn validation(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::refused("ValidationError", message)
}

/// The answer to a failure that is not the caller's.
#[must_use]
pub fn internal() -> ApiError {
    ApiError::refused("InternalFailure", "STS failed to process the request; try again.")
        .with_status(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The answer to too many requests.
#[must_use]
pub fn throttled() -> ApiError {
    ApiError::refused("Throttling", "Rate exceeded")
}
