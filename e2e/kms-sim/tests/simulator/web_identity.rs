//! `AssumeRoleWithWebIdentity`: which tokens open a session.

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentityError as Refused, AssumeRoleWithWebIdentityOutput,
};
use serde_json::json;

use crate::issuer::{AUDIENCE, Issuer, SUBJECT, URL};
use crate::world::{ROLE, World, code, role, sts_client};

async fn assume(world: &World, role: &str, token: &str) -> Result<AssumeRoleWithWebIdentityOutput, SdkError<Refused>> {
    sts_client(&world.endpoint, None)
        .assume_role_with_web_identity()
        .role_arn(role)
        .role_session_name("vc1")
        .web_identity_token(token)
        .send()
        .await
}

#[tokio::test]
async fn a_good_token_opens_a_session() {
    let world = World::start().await;
    let before = jiff::Timestamp::now().as_second();
    let output = assume(&world, ROLE, &world.issuer.token()).await.unwrap();
    assert_eq!(output.subject_from_web_identity_token(), Some(SUBJECT));
    assert_eq!(output.audience(), Some(AUDIENCE));
    assert_eq!(output.provider(), Some(URL));
    let user = output.assumed_role_user().unwrap();
    assert_eq!(user.arn(), "arn:aws:sts::111122223333:assumed-role/support/vc1");
    let credentials = output.credentials().unwrap();
    assert!(credentials.access_key_id().starts_with("ASIA"));
    assert!(credentials.expiration().secs() >= before + 3600);
}

#[tokio::test]
async fn issuers_sign_with_either_algorithm_and_publish_keys_either_way() {
    let world = World::start().await;
    for issuer in [Issuer::es256(), Issuer::rs256()] {
        world.put("/issuer", issuer.as_pem()).await;
        assume(&world, ROLE, &issuer.token()).await.unwrap();
        world.put("/issuer", issuer.as_jwks("k1")).await;
        assume(&world, ROLE, &issuer.token_of_key("k1")).await.unwrap();
        assert_eq!(code(assume(&world, ROLE, &issuer.token_of_key("k2")).await), "InvalidIdentityToken");
    }
}

#[tokio::test]
async fn tokens_that_do_not_prove_an_identity_are_invalid() {
    let world = World::start().await;
    let issuer = &world.issuer;
    let good = issuer.token();
    let unsigned = good.rsplit_once('.').unwrap().0.to_owned() + ".";
    let now = jiff::Timestamp::now().as_second();
    for token in [
        "nonsense".to_owned(),
        unsigned,
        Issuer::es256().token(),
        Issuer::rs256().token(),
        issuer.token_with(json!({"iss": "https://elsewhere"})),
        issuer.token_with(json!({"aud": ["https://kubernetes.default.svc"]})),
        issuer.token_with(json!({"nbf": now + 600})),
    ] {
        let error = assume(&world, ROLE, &token).await.unwrap_err().into_service_error();
        assert!(matches!(error, Refused::InvalidIdentityTokenException(_)), "{error:?}");
        assert!(!error.message().unwrap_or_default().contains(&token));
    }
}

#[tokio::test]
async fn an_expired_token_is_named_as_such() {
    let world = World::start().await;
    let now = jiff::Timestamp::now().as_second();
    let token = world.issuer.token_with(json!({"exp": now - 1, "nbf": now - 60}));
    let error = assume(&world, ROLE, &token).await.unwrap_err().into_service_error();
    assert!(matches!(error, Refused::ExpiredTokenException(_)), "{error:?}");
}

#[tokio::test]
async fn a_role_admits_only_the_subjects_that_it_trusts() {
    let world = World::start().await;
    let token = world.issuer.token();
    assert_eq!(code(assume(&world, &format!("{ROLE}-2"), &token).await), "AccessDenied");
    world.put("/roles/support", role(&["system:serviceaccount:vk-vc2:engine"])).await;
    assert_eq!(code(assume(&world, ROLE, &token).await), "AccessDenied");
    world.put("/roles/support", role(&["system:serviceaccount:vk-*:engine"])).await;
    assume(&world, ROLE, &token).await.unwrap();
    let elsewhere =
        json!({"arn": ROLE, "trust": {"issuer": "https://elsewhere", "audience": AUDIENCE, "subjects": ["*"]}});
    world.put("/roles/support", elsewhere).await;
    assert_eq!(code(assume(&world, ROLE, &token).await), "AccessDenied");
}

#[tokio::test]
async fn a_session_lasts_as_long_as_asked_for() {
    let world = World::start().await;
    let ask = async |seconds: i32| {
        sts_client(&world.endpoint, None)
            .assume_role_with_web_identity()
            .role_arn(ROLE)
            .role_session_name("vc1")
            .web_identity_token(world.issuer.token())
            .duration_seconds(seconds)
            .send()
            .await
    };
    for seconds in [900, 43_200] {
        let before = jiff::Timestamp::now().as_second();
        let expiry = ask(seconds).await.unwrap().credentials.unwrap().expiration.secs();
        assert!(expiry >= before + i64::from(seconds));
        assert!(expiry < before + i64::from(seconds) + 900);
    }
    for seconds in [899, 43_201] {
        assert_eq!(code(ask(seconds).await), "ValidationError");
    }
}

#[tokio::test]
async fn without_an_issuer_nobody_is_known() {
    let world = World::empty().await;
    world.put("/roles/support", role(&[SUBJECT])).await;
    assert_eq!(code(assume(&world, ROLE, &world.issuer.token()).await), "InvalidIdentityToken");
}
