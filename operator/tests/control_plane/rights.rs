//! What the operator may do.

use super::*;

#[tokio::test]
async fn the_operator_can_do_what_it_needs_and_nothing_else() {
    let world = World::new().await;
    let kubeconfig = world.operator_kubeconfig(None);
    let allowed = |arguments: &[&str]| try_kubectl(&kubeconfig, &[&["auth", "can-i"], arguments].concat(), "").is_ok();
    assert!(allowed(&["list", "vectorclusters.vectorkeep.dev", "-A"]));
    for forbidden in [
        &["list", "secrets", "-A"][..],
        &["get", "secrets", "-n", "kube-system"],
        &["get", "secrets", "-n", &world.namespace],
        &["list", "pods", "-A"],
        &["get", "configmaps", "-n", &world.namespace],
        &["create", "statefulsets.apps", "-n", &world.namespace],
        &["create", "clusterrolebindings"],
        &["escalate", "clusterroles"],
        &["bind", "clusterrole/cluster-admin"],
        &["patch", "validatingadmissionpolicies"],
        &["patch", "customresourcedefinitions"],
        &["update", "vectorclusters.vectorkeep.dev", "-n", &world.namespace],
        &["create", "vectorclusters.vectorkeep.dev", "-n", &world.namespace],
        &["create", "enginecatalogs.vectorkeep.dev"],
        &["patch", "enginecatalogs.vectorkeep.dev"],
        &["update", "enginecatalogs.vectorkeep.dev"],
        &["delete", "enginecatalogs.vectorkeep.dev"],
    ] {
        assert!(!allowed(forbidden), "{forbidden:?} is allowed");
    }
    // What rights can't say, admission says.
    let denied = |manifest: &str, part: &str| {
        let error = try_kubectl(&kubeconfig, &["create", "-f", "-"], &format!("---\n{manifest}")).expect_err(manifest);
        assert!(error.contains(part), "{manifest}: {error}");
    };
    denied("{apiVersion: v1, kind: Namespace, metadata: {name: mine}}", "vk-<cluster id>");
    denied(
        "{apiVersion: v1, kind: Namespace, metadata: {name: vk-vc1234, labels: {vectorkeep.dev/cluster-id: vc1234, vectorkeep.dev/data-plane: 'true'}}}",
        "restricted",
    );
    let binding = |role: &str, namespace: &str| {
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: x, namespace: {namespace}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}, \
             subjects: [{{kind: ServiceAccount, name: vectorkeep-operator, namespace: {OPERATOR_NAMESPACE}}}]}}"
        )
    };
    denied(&binding("cluster-admin", "kube-system"), "forbidden");
    denied(&binding("vectorkeep-data-plane", "kube-system"), "data-plane namespaces only");
    denied(&binding("vectorkeep-publisher", &world.namespace), "for a VectorCluster only");
    let error = try_kubectl(&kubeconfig, &["label", "namespace", "kube-system", "vectorkeep.dev/data-plane=true"], "")
        .expect_err("denied");
    assert!(error.contains("vk-<cluster id>"), "{error}");
    let error = try_kubectl(&kubeconfig, &["delete", "namespace", &world.namespace], "").expect_err("denied");
    assert!(error.contains("vk-<cluster id>"), "{error}");

    // In the namespaces that it is bound in, it writes what it must and no more.
    let (_operator, _engines) = ready(&world, LOCAL).await;
    let data_plane = world.data_plane("support");
    let secret = |namespace: &str, name: &str, type_: &str| {
        format!("{{apiVersion: v1, kind: Secret, type: '{type_}', metadata: {{name: {name}, namespace: {namespace}}}}}")
    };
    denied(&secret(&world.namespace, "mine", "Opaque"), "connection secrets only");
    denied(&secret(&data_plane, "other", "Opaque"), "connection secrets only");
    for forbidden in [
        &["get", "secrets/support-connection", "-n", &world.namespace][..],
        &["get", "secrets/other", "-n", &data_plane],
        &["list", "secrets", "-n", &data_plane],
        &["watch", "secrets", "-n", &data_plane],
        &["delete", "secrets", "-n", &data_plane],
        &["delete", "persistentvolumeclaims", "-n", &data_plane],
        &["create", "pods", "-n", &data_plane],
        &["create", "pods", "--subresource=exec", "-n", &data_plane],
        &["create", "serviceaccounts", "--subresource=token", "-n", &data_plane],
    ] {
        assert!(!allowed(forbidden), "{forbidden:?} is allowed");
    }
    let other = json!({"spec": {"encryption": {"checkInterval": "20s"}}}).to_string();
    let change = ["patch", "vcl", "support", "-n", &world.namespace, "--type=merge", "-p", &other];
    let error = try_kubectl(&kubeconfig, &change, "").expect_err("denied");
    assert!(error.contains("may not change what a VectorCluster asks for"), "{error}");
    kubectl(world.kubeconfig(), &[&change[..], &["--dry-run=server"]].concat(), "");
    let workload = kubectl(&kubeconfig, &["get", "statefulset", "engine", "-n", &data_plane, "-o", "json"], "");
    let evil = workload.replace(&image("engine", 'b'), &image("evil", 'e'));
    assert_ne!(evil, workload);
    let error = try_kubectl(&kubeconfig, &["replace", "-f", "-"], &evil).expect_err("denied");
    assert!(error.contains("images of the EngineCatalog"), "{error}");
    world.clean_up().await;
}
