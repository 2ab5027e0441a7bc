"""Every test module gets an engine of its own; afterwards its log must be clean."""

import uuid

import pytest

from engine_process import Engine


class Secrets(set[str]):
    """What must never be in a log, nor in the report of a failed test."""

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


@pytest.fixture(scope="module")
def secrets() -> Secrets:
    """Tests add what they use."""
    return Secrets()


@pytest.fixture(scope="module")
def engine(tmp_path_factory, secrets):
    engine = Engine(tmp_path_factory.mktemp("engine") / "data")
    engine.start()
    secrets.add(engine.token.split(":", 1)[1])
    yield engine
    engine.stop()
    assert_clean_log(engine, secrets)


def assert_clean_log(engine: Engine, secrets: Secrets):
    log = engine.log.read_text(errors="replace")
    assert log, "the engine wrote no log at all: the check would prove nothing"
    assert not engine.unwanted_lines(), engine.unwanted_lines()
    # Counted first: what is compared in a failed assertion is printed.
    leaked = sum(secret in log for secret in secrets)
    assert leaked == 0, "a secret is in the log"


@pytest.fixture
def client(engine):
    client = engine.client()
    yield client
    client.close()


@pytest.fixture
def name() -> str:
    """The name of a collection that no other test uses."""
    return f"c_{uuid.uuid4().hex[:12]}"
