//! A serving certificate that cert-manager writes, as far as an API server without cert-manager shows it: whether its kind is
//! there, what the operator says in it, and what it may not say.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use vectorkeep_operator::{
    cert_manager::Certificate,
    certificates::{AuthorityRequest, LeafRequest, TlsMaterial, Usage, issue},
};

use super::*;

const ISSUED: &str =
    "{encryption: {local: {}}, network: {clients: [{podSelector: {}}]}, tls: {issuerRef: {name: corporate}}}";
const NAME: &str = "engine-serving-tls";

/// As much of cert-manager's definition as an API server needs.
const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Certificate, plural: certificates, singular: certificate}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"#;

/// A webhook of cert-manager behind which nobody answers.
const SILENT_WEBHOOK: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: cert-manager-webhook}
webhooks:
  - name: webhook.cert-manager.io
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    clientConfig: {url: "https://127.0.0.1:1/validate"}
    rules: [{apiGroups: [cert-manager.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [certificates]}]
"#;

/// How often the operator wrote an order, as it says: a write that changes nothing leaves no other trace.
fn orders_written(operator: &Operator) -> usize {
    let log = operator.log();
    let entries = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    entries.filter(|entry| entry["fields"]["message"] == "applied" && entry["fields"]["kind"] == "Certificate").count()
}

/// Plays cert-manager: it fills the secret of an order and says so. Answers the issuer's CA.
async fn fill(world: &World, order: &Certificate) -> TlsMaterial {
    let now = Timestamp::now();
    let lifetime = SignedDuration::from_hours(2160);
    let own_dns = vec!["cluster.local".to_owned()];
    let request =
        AuthorityRequest { common_name: "corporate".into(), own_dns, further_dns: Vec::new(), lifetime: lifetime * 2 };
    let ca = issue::authority(&request, now).expect("a CA");
    let dns_names = order.spec.dns_names.clone();
    let request =
        LeafRequest { common_name: "engine".into(), dns_names, uris: Vec::new(), usage: Usage::Server, lifetime };
    let leaf = issue::leaf(&request, &ca, now).expect("a certificate");
    let mut secret = Secret { type_: Some("kubernetes.io/tls".into()), ..Secret::default() };
    secret.metadata.name = Some(order.spec.secret_name.clone());
    secret.metadata.labels = Some(order.spec.secret_template.labels.clone());
    secret.metadata.annotations = Some(order.spec.secret_template.annotations.clone());
    let entries = [
        ("tls.crt", leaf.certificate.as_bytes()),
        ("tls.key", leaf.key.reveal()),
        ("ca.crt", ca.certificate.as_bytes()),
    ];
    secret.data = Some(entries.map(|(key, value)| (key.to_owned(), ByteString(value.to_vec()))).into());
    let namespace = world.data_plane("support");
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &namespace);
    secrets.create(&PostParams::default(), &secret).await.expect("created");
    let orders: Api<Certificate> = Api::namespaced(world.client.clone(), &namespace);
    let ready =
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]}});
    orders.patch_status(NAME, &PatchParams::default(), &Patch::Merge(ready)).await.expect("written");
    ca
}

async fn entry(world: &World, namespace: &str, name: &str, key: &str) -> Option<String> {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), namespace);
    let data = secrets.get_opt(name).await.expect("readable")?.data?;
    Some(String::from_utf8_lossy(&data.get(key)?.0).into_owned())
}

#[tokio::test]
async fn an_order_waits_for_cert_manager_is_filled_by_it_and_is_withdrawn_before_the_own_ca_signs_again() {
    let world = World::new().await;
    let engines = Engines::start().await;
    let operator = world.start(&Flags { connect_to: Some(engines.address()), ..Flags::default() });
    world.apply("support", ISSUED).await;
    let missing = world.until_condition("support", "Stalled", "True", "CertManagerMissing").await;
    assert!(missing.message.contains("remove spec.tls.issuerRef"), "{}", missing.message);

    kubectl(world.kubeconfig(), &["apply", "-f", "-"], DEFINITION);
    world.until_condition("support", "Ready", "False", "WaitingForIssuer").await;
    let namespace = world.data_plane("support");
    let orders: Api<Certificate> = Api::namespaced(world.client.clone(), &namespace);
    let order = world.until("an order", || async { orders.get_opt(NAME).await.ok().flatten() }).await;
    assert_eq!(order.spec.issuer_ref.name, "corporate");
    assert_eq!(entry(&world, &world.namespace, "support-connection", "uri").await, None);

    let ca = fill(&world, &order).await;
    become_ready(&world, &engines).await;
    world.until_condition("support", "CertificatesValid", "True", "IssuedByCertManager").await;
    let published = || entry(&world, &world.namespace, "support-connection", "ca.crt");
    assert_eq!(published().await, Some(ca.certificate.clone()));
    // Longer than the resync.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(orders_written(&operator), 1, "it is told once");

    // What rights can't say, admission says.
    let kubeconfig = world.operator_kubeconfig(None);
    let other = format!(
        "{{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {{name: other, namespace: {namespace}}}, \
         spec: {{secretName: other, usages: [server auth], issuerRef: {{name: corporate}}}}}}"
    );
    let error = try_kubectl(&kubeconfig, &["create", "-f", "-"], &other).expect_err("denied");
    assert!(error.contains("engine-serving-tls only"), "{error}");
    let patch = ["patch", "certificates.cert-manager.io", NAME, "-n", &namespace, "--type=merge", "-p"];
    for change in ["{\"spec\": {\"isCA\": true}}", "{\"spec\": {\"usages\": [\"client auth\"]}}"] {
        let error = try_kubectl(&kubeconfig, &[&patch[..], &[change]].concat(), "").expect_err("denied");
        assert!(error.contains("certificates for servers only"), "{error}");
    }

    world.apply("support", LOCAL).await;
    world.until("the order to go", || async { orders.get_opt(NAME).await.ok()?.is_none().then_some(()) }).await;
    let issued = ca.certificate;
    world
        .until("a certificate of the own CA", || async {
            let found = entry(&world, &namespace, NAME, "ca.crt").await?;
            (found != issued).then_some(())
        })
        .await;
    engines.run(&world.client, &world.cluster_id("support")).await;
    world.until_condition("support", "CertificatesValid", "True", "Valid").await;
    world.until("the own CA published", || async { (published().await? != issued).then_some(()) }).await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
    kubectl(world.kubeconfig(), &["delete", "crd", "certificates.cert-manager.io"], "");
}

#[tokio::test]
async fn a_cert_manager_that_does_not_answer_is_told_and_holds_nothing_else_up() {
    let world = World::new().await;
    for definition in [SILENT_WEBHOOK, DEFINITION] {
        kubectl(world.kubeconfig(), &["apply", "-f", "-"], definition);
    }
    let (_operator, _engines) = ready(&world, LOCAL).await;
    let policies: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    assert!(policies.get_opt("engine-clients").await.expect("readable").is_some());
    world.apply("support", "{encryption: {local: {}}, tls: {issuerRef: {name: corporate}}}").await;
    let refused = world.until_condition("support", "Stalled", "True", "WriteRefused").await;
    assert!(refused.message.contains("failed calling webhook"), "{}", refused.message);
    let clients = policies.get_opt("engine-clients").await.expect("readable");
    assert!(clients.is_none(), "who was taken off the list has no access any more");
    world.until_condition("support", "Ready", "True", "Serving").await;

    kubectl(world.kubeconfig(), &["delete", "validatingwebhookconfiguration", "cert-manager-webhook"], "");
    world.until_condition("support", "Stalled", "False", "Settled").await;
    world.until_condition("support", "CertificatesValid", "False", "WaitingForIssuer").await;
    world.clean_up().await;
    kubectl(world.kubeconfig(), &["delete", "crd", "certificates.cert-manager.io"], "");
}
