"""A lab leaves nothing behind, at whatever moment its `up` was killed.

Needs root, built programs and a machine without a lab, and takes less than two minutes. `make test-lab` takes the lab down
and runs it:

    VECTORKEEP_LAB_LIFECYCLE=1 python3 -m unittest discover -s e2e/lab/tests -t e2e
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from lab import network, node, teardown
from lab.layout import BRIDGE

LAB = pathlib.Path(__file__).resolve().parents[1] / "lab"
WATCHED_FOLDERS = ("/run", "/var/lib", "/var/log", "/opt", "/etc", "/usr/libexec")
PROGRAMS = ("etcd", "kube", "containerd", "netpol", "metadata.py", "/pause", "coredns", "local-path")


def machine() -> set[str]:
    """Everything on this machine that a lab might leave behind."""
    found = {f"interface {name}" for name in network.interfaces()}
    found |= {f"route {line.strip()}" for line in network.run("ip", "route").splitlines()}
    found |= {f"mount {point}" for point in network.mount_points()}
    found |= {f"table {line}" for line in network.run("nft", "list", "tables").splitlines()}
    found |= {f"cgroup {entry}" for hierarchy in node.cgroup_hierarchies() for entry in hierarchy.iterdir()
              if entry.is_dir()}
    found |= {f"entry {folder}/{entry}" for folder in WATCHED_FOLDERS if os.path.isdir(folder)
              for entry in os.listdir(folder)}
    for name in teardown.SYSCTLS:
        path = pathlib.Path("/proc/sys", name)
        if path.exists():
            found.add(f"setting {name} {path.read_text().strip()}")
    return found


def programs_of(state: str) -> list[str]:
    """Command lines of running programs that mention the state folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if state in line and any(program in line for program in PROGRAMS):
                found.append(line)
    return found


@unittest.skipUnless(os.environ.get("VECTORKEEP_LAB_LIFECYCLE"), "takes the machine's one lab; see the module's text")
class Lifecycle(unittest.TestCase):
    def setUp(self):
        if BRIDGE in network.interfaces():
            self.fail("a lab is up on this machine: take it down first")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = str(pathlib.Path(folder.name) / "state")
        # What an earlier lab or iptables itself left empty must not hide what this one leaves.
        for table in teardown.empty_iptables_tables(before=set()):
            network.run("nft", "delete", "table", *table.split())
        self.before = machine()
        self.addCleanup(self.lab, "down")

    def lab(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, str(LAB), *arguments, "--state", self.state], check=True,
                              capture_output=True, text=True)

    def killed(self, *arguments: str, after: float) -> None:
        process = subprocess.Popen([sys.executable, str(LAB), *arguments, "--state", self.state],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def assert_nothing_left(self):
        self.assertEqual(machine() - self.before, set())
        self.assertEqual(self.before - machine(), set())
        self.assertEqual(programs_of(self.state), [])

    def test_up_that_was_killed_at_any_moment_is_taken_down(self):
        for moment in (0.5, 2, 4, 7):
            with self.subTest(killed_after_seconds=moment):
                self.killed("up", after=moment)
                self.lab("down")
                self.assert_nothing_left()

    def test_up_completes_what_a_killed_one_began(self):
        self.killed("up", after=4)
        self.lab("up")
        self.assertEqual(self.lab("status").stdout, "ready\n")

    def test_a_cluster_of_two_nodes_is_taken_down_even_when_down_was_killed(self):
        self.lab("up")
        self.lab("node-add", "node-2")
        # The positive control: the same look at the machine sees the lab while it is up.
        self.assertGreater(len(machine() - self.before), 20)
        self.assertGreater(len(programs_of(self.state)), 10)
        self.killed("down", after=0.5)
        self.lab("down")
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
