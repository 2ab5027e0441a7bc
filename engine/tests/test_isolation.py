"""What an engine makes of a network that lets it reach what it must not."""

import socket
import time
from pathlib import Path

import pytest

from conftest import Secrets, assert_clean_log
from engine_process import ConfiguredEngine

pytestmark = pytest.mark.skipif(
    len(Path("/proc/swaps").read_text().splitlines()) > 1, reason="an engine of a cluster refuses to run where memory is swapped"
)

REACHED = "a listener that they forbid was reached"
REPLACED = "the process replaces itself"
UNLOCKED = "the engine is unlocked"
REPLACEMENT_SECONDS = 60


class ExposedEngine(ConfiguredEngine):
    """An engine that reaches what it must not, is only to tell so, and gives the network more time than the test takes."""

    def __init__(self, folder: Path, listener: str):
        super().__init__(folder, "none")
        self.CONFIGURATION += f"""
        [isolation]
        forbidden = ["{listener}"]
        required = false
        settling_seconds = 6000
        """

    def has_logged(self, what: str, times: int = 1) -> bool:
        return self.log.read_text().count(what) >= times

    def wait_for(self, what: str, times: int = 1):
        deadline = time.monotonic() + REPLACEMENT_SECONDS
        while not self.has_logged(what, times):
            assert time.monotonic() < deadline, f"{what!r} is not in the log:\n{self.tail()}"
            time.sleep(0.1)


def test_a_process_that_took_anothers_place_gives_the_network_no_more_time(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine = ExposedEngine(tmp_path / "data", f"127.0.0.1:{listener.getsockname()[1]}").start()
        for _ in range(3):
            listener.accept()[0].close()  # it tries again and again
        assert not engine.has_logged(REACHED)
        key = engine.folder / "key"
        content = key.read_bytes()
        key.unlink()
        engine.wait_for(REPLACED)
        key.write_bytes(content)
        engine.wait_for(UNLOCKED, times=2)
        engine.wait_for(REACHED)
        engine.stop()
    assert_clean_log(engine, Secrets({engine.PASSWORD}))
