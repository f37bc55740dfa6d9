"""A watched list of replicas: read when it has changed, whoever writes it and how."""

import os
from pathlib import Path

import pytest

from gateway.core.types import Replica, ReplicaId
from gateway.discovery.base import NothingFound
from gateway.discovery.file import ListFile

pytestmark = pytest.mark.anyio


def parse(text: str) -> list[Replica]:
    if "bad" in text:
        raise NothingFound("bad")
    return [Replica(ReplicaId(line), f"http://{line}") for line in text.split()]


async def test_it_is_read_when_it_is_another_one(tmp_path: Path) -> None:
    """Also when another file of the same size and time is put in its place; an unchanged one is not read again."""
    file, beside = tmp_path / "f", tmp_path / "g"
    source = ListFile(file, parse)
    file.write_text("a", encoding="utf-8")
    assert [replica.id for replica in await source.find()] == ["a"]
    assert await source.find() is await source.find()
    beside.write_text("b", encoding="utf-8")
    os.utime(beside, ns=(file.stat().st_mtime_ns,) * 2)
    beside.replace(file)
    assert [replica.id for replica in await source.find()] == ["b"]
    file.write_text("", encoding="utf-8")
    assert await source.find() == []


async def test_what_cannot_be_read_is_no_answer(tmp_path: Path) -> None:
    """No file, a folder, other bytes, a bad list: each time, not only once; a good one is then read."""
    file = tmp_path / "f"
    source = ListFile(file, parse)
    with pytest.raises(NothingFound, match="no such file"):
        await source.find()
    with pytest.raises(NothingFound, match="cannot be read"):
        await ListFile(tmp_path, parse).find()
    file.write_bytes(b"\xff")
    with pytest.raises(NothingFound, match="not UTF-8 at byte 0"):
        await source.find()
    file.write_text("bad", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(NothingFound, match="bad"):
            await source.find()
    file.write_text("a", encoding="utf-8")
    assert len(await source.find()) == 1
