//! What is refused, by whom, and how that is told.

use super::*;

#[tokio::test]
async fn a_namespace_that_is_there_already_is_refused_until_an_administrator_consents() {
    let world = World::new().await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let foreign: Namespace =
        serde_json::from_value(json!({"metadata": {"name": world.data_plane("support")}})).expect("valid");
    namespaces.create(&PostParams::default(), &foreign).await.expect("created");
    let operator = world.start(&Flags::default());
    world.apply("support", LOCAL).await;
    let stalled = world.until_condition("support", "Stalled", "True", "NamespaceNotOwned").await;
    assert!(stalled.message.contains("vectorkeep.dev/adopt"), "{}", stalled.message);
    assert!(versions(&world).await.keys().all(|key| key == "Namespace"));

    let consent = json!({"metadata": {"labels": {"vectorkeep.dev/adopt": world.cluster_id("support")}}});
    namespaces
        .patch(&world.data_plane("support"), &PatchParams::default(), &Patch::Merge(consent))
        .await
        .expect("labelled");
    world.until_condition("support", "Ready", "False", "EngineStarting").await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn a_refused_key_is_reported_with_its_remedy_and_service_returns_by_itself() {
    let world = World::new().await;
    // Without a word about the network: public addresses only, and nobody may connect.
    let spec = AWS.lines().filter(|line| !line.starts_with("network:")).collect::<Vec<_>>().join("\n");
    let (_operator, engines) = ready(&world, &spec).await;
    let id = world.cluster_id("support");
    engines.say(&id, "Locked", "Refused", "AccessDeniedException");
    let condition = world.until_condition("support", "Ready", "False", "KeyRefused").await;
    for part in ["key/1234abcd", "role/vector", "kubectl vectorkeep key-policy", "AccessDenied"] {
        assert!(condition.message.contains(part), "{part}");
    }
    world.until_condition("support", "KeyAccessible", "False", "KeyRefused").await;
    world.until_condition("support", "Stalled", "True", "KeyRefused").await;

    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    world
        .until("an Event", || async {
            let events = events.list(&ListParams::default()).await.ok()?;
            events
                .iter()
                .any(|event| event.reason.as_deref() == Some("KeyRefused") && event.type_.as_deref() == Some("Warning"))
                .then_some(())
        })
        .await;

    engines.end(&id);
    world.until_condition("support", "KeyAccessible", "Unknown", "EngineSilent").await;
    world.until_condition("support", "Ready", "Unknown", "EngineSilent").await;

    engines.run(&world.client, &id).await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.clean_up().await;
}

/// A policy of the administrators', under which no workload can be made.
const NO_WORKLOADS: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-workloads}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], resources: [statefulsets], operations: [CREATE]}]
  validations: [{expression: "false", message: no workloads today}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-workloads}
spec: {policyName: no-workloads, validationActions: [Deny]}
"#;

#[tokio::test]
async fn what_an_admission_policy_refuses_shows_in_the_status_until_it_is_allowed() {
    let world = World::new().await;
    let engines = Engines::start().await;
    kubectl(world.kubeconfig(), &["apply", "-f", "-"], NO_WORKLOADS);
    let probe = format!(
        "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: probe, namespace: {}}}, spec: {{serviceName: x, \
         selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, \
         spec: {{containers: [{{name: c, image: i}}]}}}}}}}}",
        world.namespace
    );
    let refused = || async {
        let error = try_kubectl(world.kubeconfig(), &["create", "--dry-run=server", "-f", "-"], &probe).err()?;
        error.contains("no workloads today").then_some(())
    };
    world.until("the policy to be in force", refused).await;
    let _operator = world.start(&Flags { connect_to: Some(engines.address()), ..Flags::default() });
    world.apply("support", LOCAL).await;
    let stalled = world.until_condition("support", "Stalled", "True", "WriteRefused").await;
    assert!(stalled.message.contains("StatefulSet engine"), "{}", stalled.message);
    assert!(stalled.message.contains("no workloads today"), "{}", stalled.message);
    world.until_condition("support", "Ready", "False", "WriteRefused").await;
    world.until_condition("support", "Reconciling", "True", "WriteRefused").await;

    kubectl(world.kubeconfig(), &["delete", "-f", "-"], NO_WORKLOADS);
    become_ready(&world, &engines).await;
    world.until_condition("support", "Stalled", "False", "Settled").await;
    world.clean_up().await;
}

#[tokio::test]
async fn a_full_quota_of_the_customer_and_a_volume_that_can_not_grow_hold_up_nothing_else() {
    let world = World::new().await;
    let full = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": world.namespace},
        "spec": {"hard": {"secrets": "0"}},
    });
    kubectl(world.kubeconfig(), &["create", "-f", "-"], &full.to_string());
    let used = json!({"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}}).to_string();
    let patch = ["patch", "quota", "full", "-n", &world.namespace, "--subresource=status", "--type=merge", "-p", &used];
    kubectl(world.kubeconfig(), &patch, "");
    let secret = ["create", "secret", "generic", "probe", "-n", &world.namespace, "--dry-run=server"];
    let refused = || async { try_kubectl(world.kubeconfig(), &secret, "").err() };
    world.until("the quota to be in force", refused).await;

    let engines = Engines::start().await;
    let _operator = world.start(&Flags { connect_to: Some(engines.address()), ..Flags::default() });
    world.apply("support", LOCAL).await;
    let stalled = world.until_condition("support", "Stalled", "True", "WriteRefused").await;
    assert!(stalled.message.contains("support-connection"), "{}", stalled.message);
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    world.until("a workload", || async { sets.get_opt("engine").await.ok().flatten() }).await;
    engines.run(&world.client, &world.cluster_id("support")).await;
    world.pod_is_ready("support").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    kubectl(world.kubeconfig(), &["delete", "quota", "full", "-n", &world.namespace], "");
    world.until_condition("support", "Stalled", "False", "Settled").await;
    let customers: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    customers.get("support-connection").await.expect("given at last");

    // Nobody bound the claim, so Kubernetes lets it grow as little as one of a class that forbids it.
    let generation = || async { sets.get("engine").await.expect("there").metadata.generation };
    let before = generation().await;
    let more = LOCAL.replace("local: {}", "local: {}, checkInterval: 20s");
    world.apply("support", &more.replace("network:", "storage: {volume: {size: 40Gi}}, network:")).await;
    let stalled = world.until_condition("support", "Stalled", "True", "WriteRefused").await;
    assert!(stalled.message.contains("PersistentVolumeClaim engine-data"), "{}", stalled.message);
    world.until("a rollout all the same", || async { (generation().await != before).then_some(()) }).await;
    world.clean_up().await;
}

#[tokio::test]
async fn invalid_resources_are_refused_with_a_message_that_names_the_field() {
    let world = World::new().await;
    let cases = [
        ("{encryption: {}}", "exactly one of aws and local"),
        (
            "{encryption: {local: {}, aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws:iam::111122223333:role/r'}}}",
            "exactly one of aws and local",
        ),
        ("{encryption: {local: {}, checkInterval: 2m}}", "encryption.checkInterval"),
        ("{encryption: {local: {}, checkInterval: soon}}", "encryption.checkInterval"),
        ("{encryption: {local: {}, outageGrace: 48h}}", "encryption.outageGrace"),
        ("{encryption: {local: {}, outageGrace: 5s}}", "encryption.outageGrace"),
        ("{encryption: {local: {}, outageGrace: 0s}}", "encryption.outageGrace"),
        ("{encryption: {local: {}}, upgrade: {window: {startDeadline: 0s}}}", "startDeadline"),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:alias/a', roleArn: 'arn:aws:iam::111122223333:role/r'}}}",
            "encryption.aws.keyArn",
        ),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws:iam::1:role/r'}}}",
            "encryption.aws.roleArn",
        ),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws-cn:iam::111122223333:role/r'}}}",
            "same AWS partition",
        ),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws:iam::111122223333:role/r', endpoints: {kms: 'http://kms'}}}}",
            "endpoints.kms",
        ),
        ("{encryption: {local: {}}, replicas: 2}", "spec.replicas"),
        ("{encryption: {local: {}}, clusterId: UPPER1}", "spec.clusterId"),
        (
            "{encryption: {local: {}}, resources: {requests: {memory: 4Gi}, limits: {memory: 2Gi}}}",
            "resources.limits.memory",
        ),
        ("{encryption: {local: {}}, resources: {requests: {memory: lots}}}", "resources.requests.memory"),
        ("{encryption: {local: {}}, storage: {volume: {size: big}}}", "storage.volume.size"),
        ("{encryption: {local: {}}, network: {clients: [{}]}}", "network.clients"),
        ("{encryption: {local: {}}, network: {clients: [{cidr: 10.0.0.0/8, podSelector: {}}]}}", "network.clients"),
        ("{encryption: {local: {}}, network: {clients: [{cidr: ten}]}}", "network.clients"),
        ("{encryption: {local: {}}, network: {egress: [{cidr: 1.2.3.4}]}}", "network.egress"),
        ("{encryption: {local: {}}, network: {egress: [{cidr: 1.2.3.4/32, ports: [0]}]}}", "ports"),
        ("{encryption: {local: {}}, tls: {duration: 1m}}", "tls.duration"),
        ("{encryption: {local: {}}, tls: {duration: 5m, caDuration: 9m}}", "tls.caDuration"),
        ("{encryption: {local: {}}, tls: {duration: 10m, caDuration: 15m}}", "tls.caDuration"),
        ("{encryption: {local: {}}, tls: {caOverlap: 30s}}", "tls.caOverlap"),
        ("{encryption: {local: {}}, tls: {dnsNames: ['*.acme.example']}}", "tls.dnsNames"),
        ("{encryption: {local: {}}, tls: {issuerRef: {name: a, kind: Issuer}}}", "name a ClusterIssuer"),
        ("{encryption: {local: {}}, tls: {issuerRef: {name: Upper}}}", "tls.issuerRef.name"),
        ("{encryption: {local: {}}, tls: {issuerRef: {name: a}, duration: 30m}}", "at least 1h with tls.issuerRef"),
        ("{encryption: {local: {}}, tls: {clientAuth: Sometimes}}", "tls.clientAuth"),
        ("{encryption: {local: {}}, deletionPolicy: Shred}", "deletionPolicy"),
    ];
    for (spec, field) in cases {
        let error = world.try_apply("wrong", spec).await.expect_err(spec).to_string();
        assert!(error.contains(field), "{spec}: {error}");
    }
    let long = "n".repeat(53);
    let error = world.try_apply(&long, LOCAL).await.expect_err("too long").to_string();
    assert!(error.contains("metadata.name"), "{error}");
    world
        .try_apply("right", "{encryption: {local: {}}, resources: {requests: {cpu: 2, memory: 4Gi}}}")
        .await
        .expect("accepted");
    world.clean_up().await;
}

#[tokio::test]
async fn what_cannot_be_served_yet_cannot_be_changed() {
    let world = World::new().await;
    let base = AWS.trim().to_owned() + "\nclusterId: sharedid\nstorage: {volume: {size: 20Gi, storageClassName: fast}}";
    world.apply("fixed", &base).await;
    let changes = [
        ("key/1234abcd", "key/9999abcd", "keyArn"),
        ("sharedid", "otherid", "clusterId"),
        ("\nclusterId: sharedid", "", "clusterId"),
        ("size: 20Gi", "size: 10Gi", "size"),
        ("storageClassName: fast", "storageClassName: slow", "storageClassName"),
    ];
    for (from, to, field) in changes {
        let spec = base.replace(from, to);
        assert_ne!(spec, base);
        let error = world.try_apply("fixed", &spec).await.expect_err(field).to_string();
        assert!(error.contains(field), "{field}: {error}");
        assert!(error.contains("can"), "{error}");
    }
    let local =
        base.lines().filter(|line| !line.contains("aws") && !line.contains("Arn")).collect::<Vec<_>>().join("\n");
    let error = world
        .try_apply("fixed", &local.replace("encryption:", "encryption: {local: {}}"))
        .await
        .expect_err("provider")
        .to_string();
    assert!(error.contains("provider can't be changed"), "{error}");
    world
        .try_apply("fixed", &base.replace("size: 20Gi", "size: 30Gi").replace("role/vector", "role/other"))
        .await
        .expect("accepted");
    world.clean_up().await;
}

#[tokio::test]
async fn a_record_that_somebody_damaged_is_named_and_kept_and_a_new_operator_knows_what_serves() {
    let world = World::new().await;
    let (operator, engines) = ready(&world, AWS).await;
    let records: Api<ConfigMap> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let name = format!("record-{}", world.cluster_id("support"));
    let edit = async |patch: Value| {
        let patch = Patch::Merge(json!({ "data": patch }));
        records.patch(&name, &PatchParams::default(), &patch).await.expect("written").data
    };
    let damaged = edit(json!({"history.json": "[{\"from\": 7,}]"})).await;
    let stalled = world.until_condition("support", "Stalled", "True", "RecordUnreadable").await;
    for part in [name.as_str(), "history.json", "delete that entry"] {
        assert!(stalled.message.contains(part), "{}", stalled.message);
    }
    world.until_condition("support", "Ready", "True", "Serving").await;

    operator.kill();
    world.delete_status("support");
    let operator = world.start(&Flags { connect_to: Some(engines.address()), ..Flags::default() });
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.until_condition("support", "Stalled", "True", "RecordUnreadable").await;
    assert_eq!(records.get(&name).await.expect("there").data, damaged);

    edit(json!({"history.json": null})).await;
    world.until_condition("support", "Stalled", "False", "Settled").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}
