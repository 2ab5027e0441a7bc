"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler."""
from __future__ import annotations

import http.client
import json
import pathlib
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass

from . import pki
from .build import Programs
from .errors import LabError
from .files import write_if_changed
from .layout import API_SERVICE_ADDRESS, CLUSTER_DOMAIN, POD_RANGE, SERVICE_RANGE, Layout
from .process import Processes

ISSUER = f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}"
API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc",
             f"kubernetes.default.svc.{CLUSTER_DOMAIN}", "localhost")

# Metadata only: bodies of requests may hold secrets, and the log is a file like any other.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Endpoints:
    """Where the control plane listens."""

    api_address: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int

    @property
    def url(self) -> str:
        return f"https://{self.api_address}:{self.api_port}"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for candidate in sockets:
            candidate.bind(("127.0.0.1", 0))
        return [candidate.getsockname()[1] for candidate in sockets]
    finally:
        for candidate in sockets:
            candidate.close()


class ControlPlane:
    """The control plane of one lab: its certificates and processes."""

    def __init__(self, layout: Layout, programs: Programs, endpoints: Endpoints):
        self._layout = layout
        self._programs = programs
        self.endpoints = endpoints
        self.processes = Processes(layout)
        self.authority = pki.Authority(layout.pki, "ca")
        self._front_proxy = pki.Authority(layout.pki / "front-proxy", "front-proxy-ca")

    def client_config(self, name: str, common_name: str, organization: str = "") -> pathlib.Path:
        """A kubeconfig for the given identity, in the pki folder."""
        client = self.authority.issue(name, common_name, organization=organization)
        path = self._layout.pki / f"{name}.kubeconfig"
        pki.write_kubeconfig(path, self.endpoints.url, self.authority.certificate, client)
        return path

    def start(self) -> None:
        """Starts etcd and kube-apiserver and waits until the API answers."""
        self._start_etcd()
        self._start_api_server()
        self._write_admin_config()
        self._wait_ready()
        self._publish_issuer()

    def _start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self.endpoints.etcd_port}"
        peer = f"http://127.0.0.1:{self.endpoints.etcd_peer_port}"
        # Data of a lab may be lost with its machine, so etcd needn't wait for the disk.
        self.processes.ensure("etcd", [
            self._programs.path("etcd"), "--name=lab", f"--data-dir={self._layout.root}/etcd",
            "--unsafe-no-fsync", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}", "--log-level=warn"])

    def _start_api_server(self) -> None:
        pki_folder, ends = self._layout.pki, self.endpoints
        loopback = ends.api_address.startswith("127.")
        server = self.authority.issue(
            "apiserver", "kube-apiserver", server=True,
            names=(*API_NAMES, *dict.fromkeys(("127.0.0.1", API_SERVICE_ADDRESS, ends.api_address))))
        kubelet_client = self.authority.issue(
            "apiserver-kubelet", "kube-apiserver-kubelet", organization="system:masters")
        proxy_client = self._front_proxy.issue("front-proxy-client", "front-proxy-client")
        public, private = pki.service_account_keys(pki_folder)
        policy = self._layout.root / "audit-policy.json"
        write_if_changed(policy, json.dumps(AUDIT_POLICY))
        self._layout.logs.mkdir(parents=True, exist_ok=True)
        self.processes.ensure("kube-apiserver", [
            self._programs.path("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{ends.etcd_port}",
            f"--bind-address={ends.api_address}", f"--advertise-address={ends.api_address}",
            f"--secure-port={ends.api_port}",
            # The loopback address is not allowed in Endpoints, and nothing there would use them.
            f"--endpoint-reconciler-type={'none' if loopback else 'lease'}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true", "--anonymous-auth=true",
            f"--client-ca-file={self.authority.certificate}",
            f"--tls-cert-file={server[0]}", f"--tls-private-key-file={server[1]}",
            f"--kubelet-client-certificate={kubelet_client[0]}", f"--kubelet-client-key={kubelet_client[1]}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            # Without this, `exec` and `logs` try to resolve the node's name and fail.
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            f"--service-account-issuer={ISSUER}", f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--requestheader-client-ca-file={self._front_proxy.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={proxy_client[0]}", f"--proxy-client-key-file={proxy_client[1]}",
            f"--audit-policy-file={policy}", f"--audit-log-path={self._layout.logs}/audit.log",
            "--audit-log-maxsize=200", "--audit-log-maxbackup=2", "--profiling=false",
        ], inputs=(policy, public, server[0]))

    def _write_admin_config(self) -> None:
        client = self.authority.issue("admin", "lab-admin", organization="system:masters")
        pki.write_kubeconfig(self._layout.kubeconfig, self.endpoints.url, self.authority.certificate, client)

    def get(self, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
        """One GET from the API server as administrator: status and body."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(*self.authority.issue("admin", "lab-admin", organization="system:masters"))
        connection = http.client.HTTPSConnection(
            self.endpoints.api_address, self.endpoints.api_port, context=context, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 90
        while not self.ready():
            self.processes.require("etcd")
            self.processes.require("kube-apiserver")
            if time.monotonic() > deadline:
                raise LabError("kube-apiserver was not ready within 90 s; the last lines of its log:\n"
                               + self.processes.tail("kube-apiserver"))
            time.sleep(0.1)

    def _publish_issuer(self) -> None:
        """Writes down what a verifier of service account tokens needs to know."""
        status, keys = self.get("/openid/v1/jwks")
        if status != 200:
            raise LabError(f"kube-apiserver answered {status} to the request for its token keys")
        write_if_changed(self._layout.issuer / "jwks.json", keys)
        write_if_changed(self._layout.issuer / "sa.pub", (self._layout.pki / "sa.pub").read_bytes())
        write_if_changed(self._layout.issuer / "issuer", ISSUER + "\n")

    def start_controllers(self, controllers: str = "*", *, secure_port: int = 10257) -> None:
        """Starts kube-controller-manager with the named controllers."""
        config = self.client_config("kube-controller-manager", "system:kube-controller-manager")
        server = self.authority.issue("kube-controller-manager-serving", "kube-controller-manager", server=True,
                                      names=("localhost", "127.0.0.1"))
        self.processes.ensure("kube-controller-manager", [
            self._programs.path("kube-controller-manager"), f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
            f"--controllers={controllers}", "--bind-address=127.0.0.1", f"--secure-port={secure_port}",
            f"--tls-cert-file={server[0]}", f"--tls-private-key-file={server[1]}",
            "--leader-elect=false", "--use-service-account-credentials=true",
            f"--root-ca-file={self.authority.certificate}",
            f"--service-account-private-key-file={self._layout.pki}/sa.key",
            f"--cluster-signing-cert-file={self.authority.certificate}",
            f"--cluster-signing-key-file={self.authority.key}",
            f"--requestheader-client-ca-file={self._front_proxy.certificate}",
            f"--cluster-cidr={POD_RANGE}", "--allocate-node-cidrs=false", "--profiling=false",
        ], inputs=(config,))

    def start_scheduler(self) -> None:
        """Starts kube-scheduler."""
        config = self.client_config("kube-scheduler", "system:kube-scheduler")
        server = self.authority.issue("kube-scheduler-serving", "kube-scheduler", server=True,
                                      names=("localhost", "127.0.0.1"))
        self.processes.ensure("kube-scheduler", [
            self._programs.path("kube-scheduler"), f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
            f"--tls-cert-file={server[0]}", f"--tls-private-key-file={server[1]}",
            "--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
        ], inputs=(config,))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl as administrator; returns its output."""
        done = subprocess.run([self._programs.path("kubectl"), f"--kubeconfig={self._layout.kubeconfig}", *arguments],
                              input=stdin, capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"kubectl {' '.join(arguments[:4])} failed: {done.stderr.strip()}")
        return done.stdout
