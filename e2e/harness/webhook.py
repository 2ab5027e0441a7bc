"""A receiver of notifications on this machine, as an administrator's ticket system would be: HTTPS, and a key."""
from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pathlib
import secrets
import ssl
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import pki
from .cluster import KIND_NAME, Cluster
from .shell import CommandFailed, run

# The lab's first node lives in this machine's own network (e2e/lab/layout.py).
LAB_ADDRESS = "198.18.0.1"


@dataclass(frozen=True)
class Delivery:
    """One attempt."""

    id: str
    event: dict
    signed: bool
    accepted: bool


class Receiver:
    """Refuses each event once, and accepts it when it comes again."""

    def __init__(self, address: str) -> None:
        certificate = pki.issue(address)
        self.ca = certificate.ca
        self.key = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.deliveries: list[Delivery] = []
        self._server = ThreadingHTTPServer((address, 0), _handler(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "tls.pem"
            file.write_text(certificate.certificate + certificate.key)
            context.load_cert_chain(file)
        # The handshake is made by each connection's own thread: one that never ends one holds up nobody.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"https://{address}:{self.port}/notifications"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def accepted(self, kind: str) -> list[dict]:
        """The events of a type that were accepted."""
        return [delivery.event for delivery in self.deliveries if delivery.accepted and delivery.event["type"] == kind]

    def take(self, headers: dict[str, str], body: bytes) -> bool:
        """Remembers an attempt; whether it is accepted."""
        id_, signed_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        key = base64.b64decode(self.key.removeprefix("whsec_"))
        signature = hmac.new(key, f"{id_}.{signed_at}.".encode() + body, hashlib.sha256).digest()
        wanted = "v1," + base64.b64encode(signature).decode()
        signed = hmac.compare_digest(wanted, headers.get("webhook-signature", ""))
        accepted = any(delivery.id == id_ for delivery in self.deliveries)
        self.deliveries.append(Delivery(id_, json.loads(body), signed, accepted))
        return accepted


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802: the name is the library's
            headers = {name.lower(): value for name, value in self.headers.items()}
            accepted = receiver.take(headers, self.rfile.read(int(headers.get("content-length", "0"))))
            self.send_response(204 if accepted else 503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests say what they need to know themselves."""

    return Handler


def address(cluster: Cluster) -> str | None:
    """The address under which pods of a cluster find this machine, if they do."""
    if cluster.kind == "lab":
        return LAB_ADDRESS
    if cluster.kind != "kind":
        return None
    try:
        networks = json.loads(run("docker", "network", "inspect", "kind"))
    except CommandFailed:
        return None
    gateways = [entry.get("Gateway", "") for entry in networks[0]["IPAM"]["Config"]]
    return next((gateway for gateway in gateways if "." in gateway), None)


def is_reached(cluster: Cluster, receiver: Receiver) -> bool:
    """Whether a node reaches the receiver: a firewall between containers and this machine would keep it off."""
    if cluster.kind != "kind":
        return True
    host = receiver.url.split("/")[2].replace(":", "/")
    try:
        run("docker", "exec", f"{KIND_NAME}-control-plane", "timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{host}")
    except CommandFailed:
        return False
    return True
