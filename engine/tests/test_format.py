"""Two builds over one folder: a newer file format is taken once it is committed to, and from then on keeps the older out."""

import time

import pytest
from conftest import Secrets, assert_clean_log
from engine_process import Engine, binary, next_patch

ROWS = 500


@pytest.fixture
def engine(tmp_path):
    engine = Engine(tmp_path / "data")
    yield engine
    engine.kill()


def commit(engine: Engine, format: str):
    """What the operator does once an upgrade has proven itself. A running engine looks every five seconds."""
    (engine.folder / "dev" / "format").write_text(format)


def fill(engine: Engine):
    client = engine.client()
    client.create_collection("rows", dimension=4)
    client.insert("rows", [{"id": row, "vector": [1.0, 2.0, 3.0, row], "note": f"row {row}"} for row in range(ROWS)])
    client.close()


def assert_every_row_is_there(engine: Engine):
    client = engine.client()
    found = client.query("rows", filter="id >= 0", output_fields=["note"])
    assert {row["id"]: row["note"] for row in found} == {row: f"row {row}" for row in range(ROWS)}
    client.close()


def stored(engine: Engine) -> dict[str, bytes]:
    store = engine.folder / "store"
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def refusal(engine: Engine) -> str:
    """What a client is told by an engine that answers and does not serve."""
    deadline, last = time.monotonic() + 60, None
    while time.monotonic() < deadline:
        try:
            with engine.stub() as stub:
                last = stub.call("ListDatabases", timeout=10).status
            # Code 2500 until it has looked at its store.
            if last.code == 1:
                return last.reason
        except Exception as error:  # Not listening yet, or about to replace itself.
            last = error
        time.sleep(0.1)
    raise AssertionError(f"no refusal, but {last}:\n{engine.tail()}")


def test_before_the_commit_the_older_build_takes_over_again_and_after_it_refuses_and_changes_nothing(engine):
    engine.start()
    fill(engine)
    engine.stop()

    engine.program = next_patch()
    engine.start()
    assert_every_row_is_there(engine)
    engine.stop()

    engine.program = binary()
    engine.start()
    assert_every_row_is_there(engine)
    engine.stop()

    engine.program = next_patch()
    commit(engine, "2")
    engine.start()
    committed = time.monotonic() + 60
    while engine.log.read_text().count("committed to a newer file format") < 2 and time.monotonic() < committed:
        time.sleep(0.1)
    assert_every_row_is_there(engine)
    engine.stop()
    assert_clean_log(engine, Secrets({engine.token.split(":", 1)[1]}))

    before = stored(engine)
    engine.program = binary()
    engine.start(wait=False)
    told = refusal(engine)
    assert "file format 2" in told and "newer release" in told
    engine.kill()
    assert stored(engine) == before, "the refusing build changed something"

    engine.program = next_patch()
    engine.start()
    assert_every_row_is_there(engine)
    engine.stop()
