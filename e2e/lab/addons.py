"""What every cluster has beside its nodes: cluster DNS, volumes, and the policy engine's rights."""
from __future__ import annotations

import json

from .images import COREDNS, LOCAL_PATH, PROBE
from .layout import CLUSTER_DOMAIN, DNS_SERVICE_ADDRESS, Layout

STORAGE_NAMESPACE = "local-path-storage"

# No `forward`: a name outside the cluster is unknown, and no question leaves the machine.
COREFILE = f""".:53 {{
    errors
    health
    ready
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        pods insecure
    }}
    cache 5
    reload
}}
"""


def manifests(layout: Layout) -> str:
    """All objects as one JSON list for `kubectl apply`."""
    items = [*_policy_rights(), *_dns(), *_volumes(layout)]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


def _object(kind: str, name: str, namespace: str | None = None, api: str = "v1", labels: dict | None = None,
            annotations: dict | None = None, **content) -> dict:
    metadata: dict = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> dict:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


RBAC = "rbac.authorization.k8s.io/v1"
READ = ["get", "list", "watch"]
WRITE = [*READ, "create", "patch", "update", "delete"]


def _cluster_role(name: str, rules: list[dict], subject: dict) -> list[dict]:
    return [
        _object("ClusterRole", name, api=RBAC, rules=rules),
        _object("ClusterRoleBinding", name, api=RBAC, subjects=[subject],
                roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}),
    ]


def _policy_rights() -> list[dict]:
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vklab:netpol"}
    return _cluster_role("vklab:netpol", [
        _rule([""], ["pods", "namespaces"], READ),
        _rule(["networking.k8s.io"], ["networkpolicies"], READ),
    ], user)


def _service_account(name: str, namespace: str) -> dict:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _dns() -> list[dict]:
    labels = {"k8s-app": "kube-dns"}
    container = {
        "name": "coredns",
        "image": COREDNS,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"},
                  {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"}],
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "tolerations": [{"operator": "Exists"}],
        "dnsPolicy": "Default",
        # Port 53 for a process that is not root: policies name this port, as they do on any cluster.
        "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    return [
        _object("ServiceAccount", "coredns", "kube-system"),
        *_cluster_role("system:coredns", [
            _rule([""], ["endpoints", "services", "pods", "namespaces"], ["list", "watch"]),
            _rule(["discovery.k8s.io"], ["endpointslices"], ["list", "watch"]),
        ], _service_account("coredns", "kube-system")),
        _object("ConfigMap", "coredns", "kube-system", data={"Corefile": COREFILE}),
        _object("Deployment", "coredns", "kube-system", api="apps/v1", labels=labels, spec={
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }),
        _object("Service", "kube-dns", "kube-system", labels=labels, spec={
            "clusterIP": DNS_SERVICE_ADDRESS,
            "selector": labels,
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"},
                      {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        }),
    ]


def _volumes(layout: Layout) -> list[dict]:
    account = "local-path-provisioner"
    # One folder for all nodes: they share the machine's file system, volume names are unique, and
    # each volume is bound to its node.
    paths = [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(layout.root / "volumes")]}]
    work_pod = _object("Pod", "helper-pod", spec={
        "priorityClassName": "system-node-critical",
        "containers": [{"name": "helper-pod", "image": PROBE, "imagePullPolicy": "IfNotPresent",
                        "securityContext": {"runAsUser": 0}}],
    })
    container = {
        "name": "provisioner",
        "image": LOCAL_PATH,
        "imagePullPolicy": "IfNotPresent",
        "args": ["start", "--config", "/etc/config/config.json", "--provisioner-name", "rancher.io/local-path",
                 "--helper-image", PROBE, "--service-account-name", account,
                 "--configmap-name", "local-path-config"],
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "CONFIG_MOUNT_PATH", "value": "/etc/config/"}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/config/"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    return [
        _object("Namespace", STORAGE_NAMESPACE),
        _object("ServiceAccount", account, STORAGE_NAMESPACE),
        _object("Role", account, STORAGE_NAMESPACE, api=RBAC, rules=[_rule([""], ["pods"], WRITE)]),
        _object("RoleBinding", account, STORAGE_NAMESPACE, api=RBAC,
                subjects=[_service_account(account, STORAGE_NAMESPACE)],
                roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account}),
        *_cluster_role("vklab:local-path-provisioner", [
            _rule([""], ["nodes", "persistentvolumeclaims", "configmaps", "pods", "pods/log"], READ),
            _rule([""], ["persistentvolumes"], WRITE),
            _rule([""], ["events"], ["create", "patch"]),
            _rule(["storage.k8s.io"], ["storageclasses"], READ),
        ], _service_account(account, STORAGE_NAMESPACE)),
        _object("ConfigMap", "local-path-config", STORAGE_NAMESPACE, data={
            "config.json": json.dumps({"nodePathMap": paths}),
            "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
            "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
            "helperPod.yaml": json.dumps(work_pod),
        }),
        _object("Deployment", account, STORAGE_NAMESPACE, api="apps/v1", spec={
            "replicas": 1,
            "selector": {"matchLabels": {"app": account}},
            "template": {"metadata": {"labels": {"app": account}},
                         "spec": {"serviceAccountName": account, "containers": [container],
                                  "volumes": [{"name": "config", "configMap": {"name": "local-path-config"}}]}},
        }),
        _object("StorageClass", "local-path", api="storage.k8s.io/v1", provisioner="rancher.io/local-path",
                # Volumes of type `local`, not `hostPath`: only there does fsGroup take effect.
                annotations={"storageclass.kubernetes.io/is-default-class": "true", "defaultVolumeType": "local"},
                volumeBindingMode="WaitForFirstConsumer", reclaimPolicy="Delete"),
    ]
