"""Clients that go on while something is changed under them, and remember whatever went wrong."""
from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable

from pymilvus import MilvusClient

from .installation import Client

PAUSE_SECONDS = 0.25


def fill(client: MilvusClient) -> None:
    """Makes the collection that the load searches."""
    client.create_collection("rows", dimension=4, metric_type="L2")
    client.insert("rows", [{"id": row, "vector": [1.0, 2.0, 3.0, row]} for row in range(50)])


class Load(threading.Thread):
    """A client that goes on with the connection that it has, and others that connect anew with the CAs in `trusted`."""

    def __init__(self, access: Client, trusted: Callable[[], str]) -> None:
        super().__init__(daemon=True)
        self._trusted, self._port, self._client = trusted, access.forward.port, access.connect()
        self._end = threading.Event()
        self.searches, self.connections = 0, 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._end.is_set():
            try:
                assert self._client.search("rows", [[1.0, 2.0, 3.0, 7.0]], limit=1)[0][0]["id"] == 7
                self.searches += 1
                if self.searches % 8 == 0:
                    self._connect_anew()
            except Exception as error:  # whatever a client may see is a failure of the promise
                self.failures.append(f"{type(error).__name__}: {error}")
            time.sleep(PAUSE_SECONDS)

    def _connect_anew(self) -> None:
        context = ssl.create_default_context(cadata=self._trusted())
        with socket.create_connection(("127.0.0.1", self._port), 10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost"):
                self.connections += 1

    def stop(self) -> None:
        self._end.set()
        self.join(60)
