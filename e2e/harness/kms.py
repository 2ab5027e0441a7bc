"""The KMS simulator as a pod over TLS, and its control endpoint."""
from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.request

from . import pki
from .cluster import Cluster
from .images import Images
from .portforward import PortForward
from .shell import wait_for

NAMESPACE = "kms"
ACCOUNT = "111122223333"
REGION = "eu-central-1"
HOST = f"kms-sim.{NAMESPACE}.svc.cluster.local"
ENDPOINT = f"https://{HOST}:8443"


def key_arn(key: str) -> str:
    """ARN of a key of the simulator."""
    return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"


def role_arn(role: str) -> str:
    """ARN of a role of the simulator."""
    return f"arn:aws:iam::{ACCOUNT}:role/{role}"


class KmsSimulator:
    """A customer's KMS: keys, roles, and what goes wrong with them."""

    def __init__(self, cluster: Cluster, images: Images) -> None:
        self._cluster = cluster
        self._forward: PortForward | None = None
        self.ca_bundle = ""
        self._images = images

    def __enter__(self) -> KmsSimulator:
        certificate = self._certificate()
        self.ca_bundle = certificate.ca
        self._cluster.apply(*_objects(self._images.kms, certificate))
        self._cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/kms-sim", "--timeout=120s")
        self._forward = PortForward(self._cluster, NAMESPACE, "deployment/kms-sim", 8444)
        self._forward.start()
        wait_for("the KMS simulator", lambda: self.call("GET", "/healthz") is not None, 60)
        issuer, jwks = self._cluster.issuer()
        self.call("PUT", "/issuer", {"issuer": issuer, "jwks": jwks})
        return self

    def __exit__(self, *_: object) -> None:
        if self._forward:
            self._forward.stop()

    def _certificate(self) -> pki.Certificate:
        """The one in use, if there is one: a new one would restart the simulator, which keeps its keys in memory."""
        if not self._cluster.exists("-n", NAMESPACE, "secret", "kms-sim-tls"):
            return pki.issue(HOST, f"kms-sim.{NAMESPACE}.svc", "localhost")
        data = self._cluster.get("-n", NAMESPACE, "secret", "kms-sim-tls")["data"]
        return pki.Certificate(*(base64.b64decode(data[name]).decode() for name in ("tls.crt", "tls.key", "ca.crt")))

    def call(self, method: str, path: str, body: object = None) -> object:
        """Calls the control endpoint."""
        assert self._forward
        self._forward.ensure()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._forward.port}{path}", data=data, method=method)
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from error
        try:
            return json.loads(text) if text else {}
        except ValueError:
            return text

    def create(self, key: str, role: str, policy_statement: dict, subject: str) -> None:
        """A key that a role may use as `policy_statement` says, and the role for one service account."""
        self.call("PUT", f"/keys/{key}", {
            "arn": key_arn(key), "region": REGION, "account": ACCOUNT, "state": "Enabled",
            "policy": {"Version": "2012-10-17", "Statement": [policy_statement]},
        })
        issuer, _ = self._cluster.issuer()
        self.call("PUT", f"/roles/{role}", {
            "arn": role_arn(role), "trust": {"issuer": issuer, "audience": "sts.amazonaws.com", "subjects": [subject]},
        })

    def set_state(self, key: str, state: str) -> None:
        """`Enabled`, `Disabled` or `PendingDeletion`."""
        self.call("POST", f"/keys/{key}/state", {"state": state})

    def log(self) -> list[dict]:
        """The access log."""
        events = self.call("GET", "/log?since=0")
        return events["events"] if isinstance(events, dict) and "events" in events else events  # type: ignore[return-value]


def _hash(text: str) -> str:
    """A short name of a text, so that a pod is replaced when its files change."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _objects(image: str, certificate: pki.Certificate) -> list[dict]:
    labels = {"app": "kms-sim"}
    container = {
        "name": "kms-sim", "image": image, "imagePullPolicy": "IfNotPresent",
        "args": ["--listen", "0.0.0.0:8443", "--control", "127.0.0.1:8444", "--tls-cert", "/tls/tls.crt",
                 "--tls-key", "/tls/tls.key", "--access-log", "-"],
        "ports": [{"containerPort": 8443}],
        "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": True}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "readOnlyRootFilesystem": True,
                            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
         "metadata": {"name": "kms-sim-tls", "namespace": NAMESPACE},
         "stringData": {"tls.crt": certificate.certificate, "tls.key": certificate.key, "ca.crt": certificate.ca}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kms-sim", "namespace": NAMESPACE}, "spec": {
            "replicas": 1, "selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels, "annotations": {"certificate": _hash(certificate.ca)}}, "spec": {
                "automountServiceAccountToken": False, "containers": [container],
                "securityContext": {"fsGroup": 65532},
                "volumes": [{"name": "tls", "secret": {"secretName": "kms-sim-tls"}}],
            }},
        }},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kms-sim", "namespace": NAMESPACE}, "spec": {
            "selector": labels, "ports": [{"name": "kms", "port": 8443, "targetPort": 8443}],
        }},
    ]
