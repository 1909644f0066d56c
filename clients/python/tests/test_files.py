"""Files of a workspace: names, parts, and the real thing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cellblock
from cellblock import Client, FilePart, LocalSupervisor, Notebook, TooLarge, escape_name, unescape_name
from cellblock._files import PART_BYTES, Reading, parts_of

from .fake import FakeDaemon, Peer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"data.csv", "data.csv"),
        ("größe 🦀".encode(), "größe 🦀"),
        (b"a\\b", r"a\\b"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"a\nb\x1b[2J\x7f", r"a\x0ab\x1b[2J\x7f"),
        ("\x9b".encode(), r"\xc2\x9b"),
        (b"\\x41", r"\\x41"),
        (b"\xed\xb2\x80", r"\xed\xb2\x80"),
    ],
)
def test_names_are_written_as_proto_writes_them(name: bytes, text: str) -> None:
    assert escape_name(name) == text
    assert unescape_name(text) == name


def test_every_byte_comes_back_and_what_is_no_escape_is_refused() -> None:
    every = bytes(range(256))
    assert unescape_name(escape_name(every)) == every
    assert escape_name(every).isprintable()
    for wrong in ["a\\", r"\x4", r"\n", r"\\\y"]:
        with pytest.raises(ValueError, match="no escape"):
            unescape_name(wrong)


def test_large_files_are_written_in_parts_and_read_as_long_as_they_were() -> None:
    assert list(parts_of(b"")) == [(0, b"")]
    assert list(parts_of("ü")) == [(0, "ü".encode())]
    assert [(offset, len(part)) for offset, part in parts_of(bytes(PART_BYTES + 1))] == [
        (0, PART_BYTES),
        (PART_BYTES, 1),
    ]
    growing = Reading("f", 100)
    assert growing.take(FilePart(b"ab", 3))
    assert not growing.take(FilePart(b"cdef", 9))
    assert growing.content() == b"abc"
    shrinking = Reading("f", 100)
    assert shrinking.take(FilePart(b"ab", 9))
    assert not shrinking.take(FilePart(b"", 2))
    assert shrinking.content() == b"ab"
    with pytest.raises(TooLarge, match="limit_bytes"):
        Reading("f", 100).take(FilePart(b"", 1 << 40))


def test_a_claimed_size_is_not_believed() -> None:
    """A daemon (or a file) that claims a terabyte costs one request."""

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.reply({"file": {"bytes": 1 << 40}}, b"x", last=True)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(TooLarge):
            client.open("n").files.read("f")
        assert [name for _, name, _ in daemon.requests] == ["open_notebook", "read_file"]


def test_files_go_in_and_out(notebook: Notebook) -> None:
    files = notebook.files
    large = bytes(range(256)) * (PART_BYTES // 128)
    files.write("in/large.bin", large)
    files.write("in/text", "zählt")
    assert files.read("in/large.bin") == large
    assert files.read_part("in/text", 1, 2) == FilePart("ä".encode(), 6)
    done = notebook.execute("import os; print(os.path.getsize('in/large.bin'), open('in/text').read())")
    assert done.result(timeout=60).stdout == f"{len(large)} zählt\n"
    listing = files.list("in")
    assert [(file.name, file.bytes, file.is_file) for file in listing] == [
        ("large.bin", len(large), True),
        ("text", 6, True),
    ]
    assert not listing.truncated
    notebook.execute(r"open('a\n\udcff', 'w').write('odd'); os.symlink('/etc/passwd', 'l')").result(
        timeout=60
    )
    odd, folder, link = files.list()
    assert (files.read(odd.name), folder.is_folder, link.kind) == (b"odd", True, "link")
    for path in ["l", "../x", "none", "in"]:
        with pytest.raises(cellblock.FileProblem):
            files.read(path)
    for file in files.list():
        files.remove(file.name)
    assert len(files.list()) == 0


def test_files_of_the_async_client(supervisor: LocalSupervisor) -> None:
    async def work() -> tuple[bytes, list[str], int]:
        async with await cellblock.AsyncClient.connect(supervisor.socket_path) as client:
            notebook = await client.open("async-files")
            await notebook.files.write("a/b", b"content")
            content = await notebook.files.read("a/b")
            names = [file.name for file in await notebook.files.list("a")]
            await notebook.files.remove("a")
            left = len(await notebook.files.list())
            await notebook.delete()
            return content, names, left

    assert asyncio.run(work()) == (b"content", ["b"], 0)
