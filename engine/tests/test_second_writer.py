"""Two processes over one folder: one store has one owner, and who is not it any more says so instead of what was."""

import time

import pytest
from pymilvus import MilvusException

from engine_process import Engine

NOT_READY = 1


def rows(client) -> int:
    return client.query("rows", filter="id >= 0", output_fields=["count(*)"])[0]["count(*)"]


def insert(client, *keys: int):
    client.insert("rows", [{"id": key, "vector": [1.0, 2.0, 3.0, key]} for key in keys])


def until_refused(call):
    """The refusal that `call` ends in: it takes a moment until a process knows that it is not the owner any more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            call()
        except MilvusException as error:
            if error.code == NOT_READY:
                return
        time.sleep(0.2)
    pytest.fail("it serves what another process has taken")


def test_who_lost_the_store_serves_nothing_and_its_new_owner_goes_on_undisturbed(tmp_path):
    folder = tmp_path / "data"
    first = Engine(folder).start()
    before = first.client()
    before.create_collection("rows", dimension=4)
    insert(before, *range(50))
    second = Engine(folder, log=tmp_path / "second.log").start()
    after = second.client()
    insert(after, 100)
    until_refused(lambda: rows(before))
    with pytest.raises(MilvusException):
        insert(before, 200)
    assert rows(after) == 51
    first.kill()
    second.kill()
    third = Engine(folder, log=tmp_path / "third.log").start()
    assert rows(third.client()) == 51
    third.stop()
