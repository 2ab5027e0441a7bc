"""A local port that leads into the cluster."""
from __future__ import annotations

import re
import subprocess
import time

from .cluster import Cluster
from .shell import CommandFailed


class PortForward:
    """`kubectl port-forward` for as long as the block lasts; started again when it breaks, on the same local port."""

    def __init__(self, cluster: Cluster, namespace: str, target: str, port: int) -> None:
        self._command = [cluster.tool("kubectl"), "--kubeconfig", str(cluster.kubeconfig), "-n", namespace, "port-forward", target]
        self._remote = port
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> PortForward:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Opens the port, on the number that it had before if there was one."""
        for _ in range(20):
            self._process = subprocess.Popen(
                [*self._command, f"{self.port or ''}:{self._remote}"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            assert self._process.stdout
            line = self._process.stdout.readline()
            if match := re.search(r"127\.0\.0\.1:(\d+)", line):
                self.port = int(match[1])
                return
            self.stop()
            time.sleep(0.5)
        raise CommandFailed(f"port-forward to {self._command[-1]} failed: {line.strip()}")

    def ensure(self) -> None:
        """Starts it again if it ended, as it does when its pod goes."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def stop(self) -> None:
        """Closes the port."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            if self._process.stdout:
                self._process.stdout.close()
            self._process = None
