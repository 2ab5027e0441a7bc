"""VectorKeep installed on a cluster, and clusters of it as a customer sees them."""
from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

from pymilvus import MilvusClient

from . import kms, webhook
from .cluster import Cluster
from .images import Images
from .portforward import PortForward
from .shell import ROOT, CommandFailed, program, run, wait_for

OPERATOR_NAMESPACE = "vectorkeep-system"
# Of the chart, and the patch that comes after it.
VERSION, NEXT_VERSION = "0.1.0", "0.1.1"
INSTALLATION_ID = "demo"
# The simulator stands for a KMS outside the cluster; its pod's address is one of these.
KMS_RANGE = "10.244.0.0/16"


@dataclass
class Installation:
    """The operator, installed by Helm."""

    cluster: Cluster
    images: Images

    def install(self, *options: str) -> None:
        """Installs or upgrades the chart and waits until the operator runs."""
        self.cluster.helm(
            "upgrade", "--install", "vectorkeep", ROOT / "charts" / "vectorkeep",
            "--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s",
            "--set", f"installationId={INSTALLATION_ID}",
            "--set", f"operator.image={self.images.operator}",
            "--set", f"engine.image={self.images.engine}",
            "--set", f"network.kmsEgress[0]={KMS_RANGE}:8443",
            # The lab has a metadata service, which gives nothing away.
            "--set", "isolation.metadataControl=true",
            *options,
        )

    def notify(self, receiver: webhook.Receiver) -> None:
        """Installs the chart with a receiver of notifications."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notification-key", "namespace": OPERATOR_NAMESPACE}}
        self.cluster.apply(secret | {"stringData": {"signing-key": receiver.key}})
        target = {"name": "tickets", "url": receiver.url, "secretName": "notification-key", "caBundle": receiver.ca}
        self.install("--set-json", "notifications=" + json.dumps({"targets": [target]}))

    @property
    def release(self) -> dict:
        """The engine release that the chart brings."""
        return {"version": VERSION, "image": self.images.engine}

    def offer(self, *releases: dict) -> None:
        """Puts releases into the catalog beside the chart's, as an administrator would."""
        patch = {"spec": {"releases": [self.release, *releases]}}
        self.cluster.kubectl("patch", "enginecatalog", "vectorkeep", "--type=merge", "-p", json.dumps(patch))


def cluster_id(namespace: str, name: str) -> str:
    """The id that a cluster will have; known before it exists, so that a key policy can name it."""
    return "vc" + hashlib.sha256(f"{INSTALLATION_ID}/{namespace}/{name}".encode()).hexdigest()[:16]


@dataclass
class Tenant:
    """One `VectorCluster` and what its owner has: a namespace, a key, a connection secret."""

    cluster: Cluster
    simulator: kms.KmsSimulator
    namespace: str
    name: str
    spec: dict = field(default_factory=dict)
    # Called before it is deleted, by whoever wants to see it once more.
    before_delete: Callable[[], None] = lambda: None

    @property
    def id(self) -> str:
        """The cluster id."""
        return cluster_id(self.namespace, self.name)

    @property
    def data_plane(self) -> str:
        """The namespace that the operator makes for it."""
        return f"vk-{self.id}"

    @property
    def key(self) -> str:
        """Id of its key in the KMS."""
        return f"key-{self.id}"

    def create_key(self) -> None:
        """Makes the customer's namespace, key and role; the key's policy is what the CLI prints."""
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        self.simulator.create(self.key, f"role-{self.id}", self.key_policy(), f"system:serviceaccount:{self.data_plane}:engine")

    def key_policy(self) -> dict:
        """The key-policy statement for this cluster, from the CLI."""
        printed = self.cli("key-policy", "--key-arn", kms.key_arn(self.key), "--role-arn", kms.role_arn(f"role-{self.id}"))
        return json.loads(printed[printed.index("{"):printed.rindex("}") + 1])

    def cli(self, command: str, *arguments: object) -> str:
        """Runs `kubectl vectorkeep`."""
        return run(*self.cli_words(command, *arguments))

    def cli_words(self, command: str, *arguments: object) -> list[str]:
        """What `cli` runs, for who runs it beside something else."""
        words = [program("kubectl-vectorkeep"), "--kubeconfig", self.cluster.kubeconfig, *command.split(), self.name,
                 "-n", self.namespace, *arguments]
        return [str(word) for word in words]

    def resource(self) -> dict:
        """The resource as the customer would apply it."""
        spec = {
            "encryption": {
                "aws": {
                    "keyArn": kms.key_arn(self.key),
                    "roleArn": kms.role_arn(f"role-{self.id}"),
                    "endpoints": {"kms": kms.ENDPOINT, "sts": kms.ENDPOINT, "caBundle": self.simulator.ca_bundle},
                },
                "checkInterval": "10s",
            },
            "resources": {"requests": {"cpu": "100m", "memory": "3Gi"}, "limits": {"memory": "3Gi"}},
            "storage": {"volume": {"size": "4Gi"}},
            "tls": {"dnsNames": ["localhost"]},
            "network": {"clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}}]},
            "deletionPolicy": "Delete",
        }
        return {
            "apiVersion": "vectorkeep.dev/v1alpha1", "kind": "VectorCluster",
            "metadata": {"name": self.name, "namespace": self.namespace}, "spec": spec | self.spec,
        }

    def apply(self) -> None:
        """Applies the resource."""
        self.cluster.apply(self.resource())

    def delete(self) -> None:
        """Deletes the resource, if it is there, and waits until it and what its policy gives up is gone."""
        if not self.cluster.exists("namespace", self.namespace):
            return
        self.before_delete()
        self.cluster.kubectl("-n", self.namespace, "delete", "vcl", self.name, "--ignore-not-found", "--timeout=180s")

    def status(self) -> dict:
        """The resource's status."""
        return self.cluster.get("-n", self.namespace, "vcl", self.name).get("status", {})

    def upgrade(self) -> dict:
        """What the status says of patches."""
        return self.status().get("upgrade", {})

    def patch(self, spec: dict) -> None:
        """Changes the resource."""
        self.cluster.kubectl("-n", self.namespace, "patch", "vcl", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def condition(self, kind: str) -> dict:
        """One condition of the status; empty if it isn't there."""
        return next((found for found in self.status().get("conditions", []) if found["type"] == kind), {})

    def wait_ready(self, seconds: float = 240) -> None:
        """Waits until the cluster is Ready. Past that time the error has what the CLI says of it."""
        try:
            wait_for(f"{self.name} Ready", lambda: self.condition("Ready").get("status") == "True", seconds)
        except TimeoutError as error:
            try:
                why = run(*self.cli_words("status"), timeout=30)
            except (CommandFailed, subprocess.TimeoutExpired) as failed:
                why = str(failed)
            raise TimeoutError(f"{error}\n{why}") from error

    def connection(self) -> dict[str, str]:
        """The connection secret."""
        secret = self.cluster.get("-n", self.namespace, "secret", f"{self.name}-connection")
        return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


class Client:
    """An unmodified `pymilvus` client through a port-forward, with TLS verified against the cluster's CA.

    It shows the certificate that it is given, if it is given one."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.forward = PortForward(tenant.cluster, tenant.data_plane, "pod/engine-0", 19530)
        self._folder = tempfile.TemporaryDirectory()
        self.token = ""

    def __enter__(self) -> Client:
        connection = self.tenant.connection()
        folder = pathlib.Path(self._folder.name)
        self.ca = folder / "ca.crt"
        self.ca.write_text(connection["ca.crt"])
        self.certificate = {}
        if "client.crt" in connection:
            for name in ("client.crt", "client.key"):
                (folder / name).write_text(connection[name])
            # Beside server_pem_path, pymilvus shows no certificate.
            self.certificate = {"ca_pem_path": str(self.ca), "server_pem_path": "",
                                "client_pem_path": str(folder / "client.crt"), "client_key_path": str(folder / "client.key")}
        self.token = connection["token"]
        self.forward.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.forward.stop()
        self._folder.cleanup()

    def connect(self, **options: object) -> MilvusClient:
        """A new client."""
        self.forward.ensure()
        settings = {"uri": f"https://localhost:{self.forward.port}", "token": self.token, "server_pem_path": str(self.ca)}
        return MilvusClient(**(settings | self.certificate | options))


def count(client: MilvusClient, collection: str) -> int:
    """Rows in a collection."""
    return client.query(collection, filter="", output_fields=["count(*)"])[0]["count(*)"]
