"""Every test module gets an engine of its own; afterwards its log must be clean."""

import uuid

import pytest

from engine_process import Engine


@pytest.fixture(scope="module")
def secrets() -> set[str]:
    """What must never be in a log. Tests add what they use."""
    return set()


@pytest.fixture(scope="module")
def engine(tmp_path_factory, secrets):
    engine = Engine(tmp_path_factory.mktemp("engine") / "data")
    engine.start()
    secrets.add(engine.token.split(":", 1)[1])
    yield engine
    engine.stop()
    assert_clean_log(engine, secrets)


def assert_clean_log(engine: Engine, secrets: set[str]):
    log = engine.log.read_text(errors="replace")
    assert log, "the engine wrote no log at all: the check would prove nothing"
    assert not engine.unwanted_lines(), engine.unwanted_lines()
    assert not [secret for secret in secrets if secret in log], "a secret is in the log"


@pytest.fixture
def client(engine):
    client = engine.client()
    yield client
    client.close()


@pytest.fixture
def name() -> str:
    """The name of a collection that no other test uses."""
    return f"c_{uuid.uuid4().hex[:12]}"
