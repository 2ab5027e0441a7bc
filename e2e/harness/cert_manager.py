"""cert-manager's own controllers in the cluster, and CAs of it that sign in every namespace.

A cluster that has cert-manager is used with it. Any other gets the lab's build, in a namespace of its own. That namespace is
made first and deleted last: where it is, the rest belongs to it, also when the run that made it was killed.
"""
from __future__ import annotations

import base64
import json
import pathlib

from . import images
from .cluster import LAB, Cluster
from .shell import CommandFailed, run

NAMESPACE = "test-cert-manager"
MODULE = "github.com/cert-manager/cert-manager"
GROUP = "cert-manager.io"
PROBE_PORT = 9403
READ = ["get", "list", "watch"]


class CertManager:
    """cert-manager for as long as the block lasts; afterwards the cluster is as it was."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._issuers: set[str] = set()
        # Where the secrets of ClusterIssuers are.
        self._namespace = NAMESPACE

    def __enter__(self) -> CertManager:
        ours = self._cluster.exists("namespace", NAMESPACE)
        if not ours and self._cluster.exists("crd", f"clusterissuers.{GROUP}"):
            self._namespace = _issuers_namespace(self._cluster)
        else:
            self._install()
        return self

    def __exit__(self, *_: object) -> None:
        if self._namespace == NAMESPACE:
            self._uninstall()
            return
        for name in set(self._issuers):
            self.remove_issuer(name)

    def cluster_issuer(self, name: str) -> str:
        """A Ready ClusterIssuer that signs with a CA of its own; returns the CA's certificate."""
        self._issuers.add(name)
        self._cluster.apply(*_issuer_objects(name, self._namespace))
        self._cluster.kubectl("wait", f"clusterissuers.{GROUP}/{name}", "--for=condition=Ready", "--timeout=60s")
        secret = self._cluster.get("-n", self._namespace, "secret", name)
        return base64.b64decode(secret["data"]["tls.crt"]).decode()

    def remove_issuer(self, name: str) -> None:
        """Removes a ClusterIssuer and its CA. What it signed stays."""
        delete = ("delete", "--ignore-not-found")
        self._cluster.kubectl(*delete, f"clusterissuers.{GROUP}", name, _root(name))
        # The certificate first: a secret that is missed is issued again.
        self._cluster.kubectl(*delete, "-n", self._namespace, f"certificates.{GROUP}", name)
        self._cluster.kubectl(*delete, "-n", self._namespace, "secret", name)
        self._issuers.discard(name)

    def _install(self) -> None:
        image = images.cert_manager(self._cluster)
        if self._terminating():
            self._uninstall()
        self._cluster.apply(_namespace())
        # Server-side: the annotation of a client-side apply has no room for definitions of this size.
        self._cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", _definitions())
        self._cluster.apply(*_rights(), _deployment(image))
        self._cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/cert-manager", "--timeout=120s")

    def _terminating(self) -> bool:
        found = self._cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
        return found == "Terminating"

    def _uninstall(self) -> None:
        delete = ("delete", "--ignore-not-found")
        self._cluster.kubectl(*delete, "-f", _definitions())
        self._cluster.kubectl(*delete, "clusterrole,clusterrolebinding", NAMESPACE)
        self._cluster.kubectl(*delete, "namespace", NAMESPACE)


def _definitions() -> pathlib.Path:
    """The folder of cert-manager's CRDs, in the cache of Go modules."""
    folder = LAB.parent / "go" / "cert-manager"
    described = json.loads(run("go", "-C", folder, "mod", "download", "-json", MODULE))
    return pathlib.Path(described["Dir"]) / "deploy" / "crds"


def _issuers_namespace(cluster: Cluster) -> str:
    """Where a cert-manager that others installed looks for the secrets of ClusterIssuers."""
    labels = "app.kubernetes.io/name=cert-manager,app.kubernetes.io/component=controller"
    found = cluster.get("deployments", "-A", "-l", labels)["items"]
    if not found:
        raise CommandFailed(f"the cluster has cert-manager's CRDs but no Deployment with {labels}: install it, or delete its CRDs")
    flag = "--cluster-resource-namespace="
    words = found[0]["spec"]["template"]["spec"]["containers"][0].get("args", [])
    chosen = next((word.removeprefix(flag) for word in words if word.startswith(flag)), "kube-system")
    return found[0]["metadata"]["namespace"] if chosen == "$(POD_NAMESPACE)" else chosen


def _root(name: str) -> str:
    """The ClusterIssuer that signs the CA of `name`."""
    return f"{name}-root"


def _issuer_objects(name: str, namespace: str) -> list[dict]:
    def issuer(name: str, spec: dict) -> dict:
        return {"apiVersion": f"{GROUP}/v1", "kind": "ClusterIssuer", "metadata": {"name": name}, "spec": spec}

    return [
        issuer(_root(name), {"selfSigned": {}}),
        {"apiVersion": f"{GROUP}/v1", "kind": "Certificate", "metadata": {"name": name, "namespace": namespace}, "spec": {
            "isCA": True, "commonName": name, "secretName": name, "privateKey": {"algorithm": "ECDSA", "size": 256},
            "issuerRef": {"group": GROUP, "kind": "ClusterIssuer", "name": _root(name)},
        }},
        issuer(name, {"ca": {"secretName": name}}),
    ]


def _namespace() -> dict:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _rights() -> list[dict]:
    """What the controllers that the lab builds ask of the API server, and no more."""
    group = "rbac.authorization.k8s.io"
    rules = [
        ([GROUP], ["certificates", "issuers", "clusterissuers"], READ),
        ([GROUP], ["certificaterequests"], [*READ, "create", "update", "delete"]),
        ([GROUP], [f"{kind}/status" for kind in ("certificates", "certificaterequests", "issuers", "clusterissuers")], ["update"]),
        ([""], ["secrets"], [*READ, "create", "patch", "delete"]),
        ([""], ["events"], ["create", "patch"]),
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cert-manager", "namespace": NAMESPACE}},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": NAMESPACE}, "rules": [
            {"apiGroups": groups, "resources": resources, "verbs": verbs} for groups, resources, verbs in rules
        ]},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": NAMESPACE},
         "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": NAMESPACE},
         "subjects": [{"kind": "ServiceAccount", "name": "cert-manager", "namespace": NAMESPACE}]},
    ]


def _deployment(image: str) -> dict:
    labels = {"app": "cert-manager"}
    container = {
        "name": "cert-manager", "image": image, "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PROBE_PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]}},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cert-manager", "namespace": NAMESPACE}, "spec": {
        # No two at a time: they elect no leader.
        "replicas": 1, "selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": labels}, "spec": {
            "serviceAccountName": "cert-manager", "containers": [container],
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        }},
    }}
