"""Processes: ours are found and ended, and nobody else's."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from lab import process
from lab.layout import Layout


class Ownership(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.layout = Layout(pathlib.Path(folder.name))
        self.processes = process.Processes(self.layout)
        self.addCleanup(lambda: process.end(process.marked(self.layout), grace=0))

    def stranger(self) -> subprocess.Popen:
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        return other

    def test_a_second_ensure_starts_nothing(self):
        self.assertTrue(self.processes.ensure("a", ["sleep", "60"]))
        first = self.processes.pid("a")
        self.assertFalse(self.processes.ensure("a", ["sleep", "60"]))
        self.assertEqual(self.processes.pid("a"), first)

    def test_another_command_or_another_input_replaces_the_process(self):
        config = self.layout.root / "config"
        config.write_text("1")
        self.processes.ensure("a", ["sleep", "60"], inputs=(config,))
        first = self.processes.pid("a")
        config.write_text("2")
        self.assertTrue(self.processes.ensure("a", ["sleep", "60"], inputs=(config,)))
        self.assertNotEqual(self.processes.pid("a"), first)
        self.assertIsNone(process.start_time(first))

    def test_a_process_without_a_record_is_found_by_its_mark(self):
        self.processes.ensure("a", ["sleep", "60"])
        pid = self.processes.pid("a")
        (self.layout.run / "a.json").unlink()
        self.assertEqual(process.marked(self.layout), [pid])

    def test_a_reused_id_is_not_taken_for_ours(self):
        other = self.stranger()
        self.layout.run.mkdir()
        (self.layout.run / "a.json").write_text(json.dumps({"pid": other.pid, "started": 1, "fingerprint": ""}))
        self.assertIsNone(self.processes.pid("a"))
        self.processes.stop("a", grace=0)
        self.assertIsNone(other.poll())

    def test_a_stranger_is_not_marked(self):
        other = self.stranger()
        self.assertNotIn(other.pid, process.marked(self.layout))
        self.assertNotIn(os.getpid(), process.marked(self.layout))

    def test_the_callers_environment_is_not_handed_on(self):
        os.environ["SOME_SECRET"] = "x"
        self.addCleanup(os.environ.pop, "SOME_SECRET")
        self.processes.ensure("a", ["sleep", "60"])
        environment = pathlib.Path(f"/proc/{self.processes.pid('a')}/environ").read_bytes()
        self.assertNotIn(b"SOME_SECRET", environment)


if __name__ == "__main__":
    unittest.main()
