"""The native side of checkpoints: streams come back as they were, changes stay local, buffers are mapped."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import pickle
import pickletools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellblock_worker.checkpoint_native import CheckpointError, CheckpointNative, Extent

from .harness import LIBRARY
from .random_structures import Structures, Thing, drawing
from .store_double import StoreDouble

PAGE = os.sysconf("SC_PAGE_SIZE")
CHUNK_BYTES = 256 << 10


@pytest.fixture(scope="module")
def native(_library: None) -> CheckpointNative:
    """The library."""
    return CheckpointNative(str(LIBRARY))


def through(native: CheckpointNative, stream: bytes, buffers: list[Any] | None = None) -> Any:
    """What is unpickled from the stream after it has been normalised and turned back."""
    with native.denormalise(native.normalise(stream)) as file:
        return pickle.Unpickler(file, buffers=buffers).load()


@pytest.mark.parametrize("block", range(10))
def test_random_structures_come_back(native: CheckpointNative, block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        value = [Structures(seed).make() for _ in range(3)]
        # Also as the pickler of protocol 4 and the one written in Python would have it.
        for stream in (pickle.dumps(value, 5), pickle.dumps(value, 4), python_pickle(value)):
            assert drawing(through(native, stream)) == drawing(value), f"seed {seed}"


@pytest.mark.parametrize("protocol", range(4))
def test_older_protocols_come_back(native: CheckpointNative, protocol: int) -> None:
    for seed in range(200):
        # Protocols 0 and 1 have no way to write a container of a derived type that holds itself.
        value = Structures(seed, subclasses=protocol > 1).make()
        assert drawing(through(native, pickle.dumps(value, protocol))) == drawing(value), f"seed {seed}"


def python_pickle(value: Any) -> bytes:
    """What the pickler written in Python makes of it, without the memo's unused objects."""
    file = io.BytesIO()
    pickle._Pickler(file, 5).dump(value)
    return pickletools.optimize(file.getvalue())


def test_many_objects_and_references_to_all_of_them_come_back(native: CheckpointNative) -> None:
    things: list[Any] = [[index] for index in range(100_000)]
    shuffled = random.Random(1).choices(things, k=300_000)
    value = {
        "things": things,
        "shuffled": shuffled,
        "set": set(range(5_000)),
        "dict": dict.fromkeys(range(5_000)),
    }
    things.append(value)
    back = through(native, pickle.dumps(value, 5))
    assert back["things"].pop() is back
    numbers = {id(thing): thing[0] for thing in back["things"]}
    assert [numbers[id(thing)] for thing in back["shuffled"]] == [thing[0] for thing in shuffled]
    assert (back["set"], back["dict"]) == (value["set"], value["dict"])


def test_a_recursive_tuple_and_a_deep_list_come_back(native: CheckpointNative) -> None:
    inner: list[Any] = []
    recursive = (1, 2, 3, 4, inner)
    inner.append(recursive)
    back = through(native, pickle.dumps(recursive, 5))
    assert back[4][0] is back

    deep: list[Any] = []
    for _ in range(200):
        deep = [deep, "x"]
    assert through(native, pickle.dumps(deep, 5)) == deep


def test_persistent_references_and_buffers_come_back_in_order(native: CheckpointNative) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("kept", value.a) if isinstance(value, Thing) else None

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, name: Any) -> Any:
            return name

    arrays = [np.arange(number) for number in range(20)]
    arrays[3].flags.writeable = False
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    first, last = Thing(), Thing()
    first.a, last.a = 1, [2]
    Pickler(file, 5, buffer_callback=buffers.append).dump([first, arrays, last])
    with native.denormalise(native.normalise(file.getvalue())) as turned:
        one, back, other = Unpickler(turned, buffers=buffers).load()
    assert (one, other) == (("kept", 1), ("kept", [2]))
    assert all(np.array_equal(array, was) for array, was in zip(back, arrays, strict=True))
    assert [array.flags.writeable for array in back] == [number != 3 for number in range(20)]


def test_the_pickler_of_this_python_is_known_to_the_last_byte(native: CheckpointNative) -> None:
    value = [{"a": index, "b": str(index), "c": (index, None, 1.5)} for index in range(20_000)]
    stream = pickle.dumps(value, 5)
    with native.denormalise(native.normalise(stream)) as file:
        back = file.read()
    opcodes = [
        [
            (opcode.name, argument)
            for opcode, argument, _ in pickletools.genops(pickled)
            if opcode.name != "FRAME"
        ]
        for pickled in (stream, back)
    ]
    assert opcodes[0] == opcodes[1]


def test_what_is_no_stream_is_an_error_with_its_place(native: CheckpointNative) -> None:
    stream = pickle.dumps(["some", "text"], 5)
    for length in range(len(stream)):
        with pytest.raises(CheckpointError, match="at byte"):
            native.normalise(stream[:length])
    with pytest.raises(CheckpointError, match="more than one pickle at byte"):
        native.normalise(stream + b".")
    normalised = native.normalise(stream)
    for length in range(len(normalised)):
        with pytest.raises(CheckpointError, match="at byte"):
            native.denormalise(normalised[:length])


def test_a_stream_file_reads_like_one(native: CheckpointNative) -> None:
    stream = pickle.dumps(["a\nb", b"x" * 1000], 5)
    normalised = native.normalise(stream)
    with native.denormalise(normalised) as file:
        expected = io.BytesIO(file.read())
        assert file.read() == b""
    with native.denormalise(normalised) as file:
        assert len(file) == len(expected.getvalue())
        assert file.read(5) == expected.read(5)
        assert file.readline() == expected.readline()
        ours, theirs = bytearray(2000), bytearray(2000)
        assert file.readinto(ours) == expected.readinto(theirs)
        assert ours == theirs
        assert (file.readline(), file.readinto(ours)) == (b"", 0)
    with pytest.raises(ValueError, match="closed file"):
        file.read()


def strings() -> list[Any]:
    return [f"string number {index}" for index in range(200_000)]


def small_objects() -> list[Any]:
    return [(index, str(index)) for index in range(1_000_000)]


def records() -> list[Any]:
    return [{"name": f"n{index}", "value": index, "tags": ["x", "y"]} for index in range(200_000)]


def equal_records() -> list[Any]:
    return [{"a": 1, "b": 2.0} for _ in range(500_000)]


def shared() -> list[Any]:
    """Each refers to some that all may use."""
    pool = [f"one of the pool: {index}" for index in range(2_000)]
    return [[index, pool[index * 7919 % 2_000]] for index in range(200_000)]


def table() -> list[Any]:
    """A dict and a set of many, in a list to insert before them."""
    return [0, 0, 0, 0, 0, 0, {f"key {index}": index for index in range(200_000)}, set(range(200_000))]


@pytest.mark.parametrize("make", [strings, small_objects, records, equal_records, shared, table])
def test_a_string_put_early_into_much_makes_few_new_chunks(
    native: CheckpointNative, make: Callable[[], Any]
) -> None:
    value = make()
    store = StoreDouble()
    assert save(native, store, pickle.dumps(value, 5))
    for change in ("inserted", "changed"):
        value[5:5] = ["one string more"]
        if change == "changed":
            value[2] = "another string, of another length"
        save(native, store, pickle.dumps(value, 5))
        new, chunks = len(store.last.sent), len(store.last.things[-1][1])
        # Where the change is, and the end, where the list of seams is.
        assert new <= max(3, 0.02 * chunks), f"{new} of {chunks} chunks are new"
    with native.denormalise(store.stream) as file:
        assert pickle.Unpickler(file).load() == value


def test_an_early_key_more_or_less_makes_few_new_chunks(native: CheckpointNative) -> None:
    value = {f"key {index}": [index] for index in range(300_000)}
    store = StoreDouble()
    save(native, store, pickle.dumps(value, 5))
    del value["key 77"]
    save(native, store, pickle.dumps(value, 5))
    assert len(store.last.things[-1][1]) > 80
    assert len(store.last.sent) <= 3


def save(
    native: CheckpointNative,
    store: StoreDouble,
    stream: bytes,
    buffers: list[Any] | None = None,
    names: bytes = b"{}",
    *,
    forked: bool = False,
) -> int:
    """Saves, and returns how many bytes that added."""
    with store.session() as socket:
        saved = native.save(socket.fileno(), stream, buffers or [], names, forked=forked)
    assert saved.id == len(store.checkpoints)
    return saved.written


def test_what_is_saved_can_be_loaded_and_only_changes_are_written(native: CheckpointNative) -> None:
    store = StoreDouble()
    value: dict[str, Any] = {
        "rows": np.arange(1_000_000).reshape(1000, 1000),
        "columns": np.asfortranarray(np.arange(600_000.0).reshape(600, 1000)),
        "empty": np.zeros(0),
        "bytes": pickle.PickleBuffer(b"read-only" * 100_000),
        "small": np.arange(3),
    }

    def checkpoint() -> int:
        buffers: list[pickle.PickleBuffer] = []
        stream = pickle.dumps(value, 5, buffer_callback=buffers.append)
        return save(native, store, stream, buffers, json.dumps({"names": list(value)}).encode())

    assert checkpoint() > 13_000_000
    assert json.loads(store.last.names) == {"names": list(value)}
    with native.denormalise(store.stream) as file:
        back = pickle.Unpickler(file, buffers=store.buffers).load()
    assert back["columns"].flags.f_contiguous
    for name in ("rows", "columns", "empty", "small"):
        assert np.array_equal(back[name], value[name])
    assert bytes(back["bytes"]) == b"read-only" * 100_000

    value["rows"][500, 500] = -1
    assert checkpoint() == CHUNK_BYTES
    value["new"] = np.random.default_rng(1).random(200_000)
    # The array, and the stream, which is one chunk.
    assert 1_600_000 < checkpoint() < 1_610_000
    assert checkpoint() == 0


def test_a_forked_child_saves_and_its_parent_keeps_its_values(native: CheckpointNative) -> None:
    store = StoreDouble()
    base = np.arange(2_000_000)
    view = base[100_000:1_900_000]
    alone = np.arange(1_000_000, 2_000_000)
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps([base, view, alone], 5, buffer_callback=buffers.append)
    with store.session() as socket:
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                native.save(socket.fileno(), stream, buffers, b"{}", forked=True)
                # Dropped here: these pages are zeros, but for those at both ends.
                os._exit(
                    0
                    if np.count_nonzero(alone) < 2048 and np.array_equal(base[100_000:1_900_000], view)
                    else 1
                )
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [array.tobytes() for array in (base, view, alone)] == store.buffers
    assert np.array_equal(alone, np.arange(1_000_000, 2_000_000))


def test_what_is_written_meanwhile_does_not_tear_what_is_saved(native: CheckpointNative) -> None:
    store = StoreDouble()
    array = np.arange(100_000)
    before = array.tobytes()
    store.offered = lambda: array.fill(7)
    stream = pickle.dumps(array, 5, buffer_callback=lambda buffer: None)
    save(native, store, stream, [array])
    assert store.buffers == [before]


def test_a_refusal_is_an_error_with_the_stores_words(native: CheckpointNative) -> None:
    store = StoreDouble()
    store.refuses = "the quota of 1 GiB is reached"
    with store.session() as socket, pytest.raises(CheckpointError, match="the quota of 1 GiB is reached"):
        native.save(socket.fileno(), pickle.dumps(1, 5), [], b"{}", forked=False)
    with store.session() as socket, pytest.raises(CheckpointError, match="0 buffers, 1 were given"):
        native.save(socket.fileno(), pickle.dumps(1, 5), [b"more"], b"{}", forked=False)


def test_a_buffer_may_have_its_columns_together(native: CheckpointNative) -> None:
    store = StoreDouble()
    array = np.asfortranarray(np.arange(12).reshape(3, 4))
    save(native, store, pickle.dumps(array, 5, buffer_callback=lambda buffer: None), [array])
    assert store.buffers == [array.tobytes("A")]


def test_a_buffer_with_gaps_is_refused_by_its_owner(native: CheckpointNative) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        native.save(-1, b"", [np.arange(10)[::2]], b"{}", forked=False)


class Pack:
    """A file of pages, each with its number in every word."""

    def __init__(self, path: Path, pages: int) -> None:
        self.path = path
        self.words = np.repeat(np.arange(pages, dtype=np.uint32), PAGE // 4)
        self.words.tofile(path)
        self.fd = os.open(path, os.O_RDONLY)

    def mappings(self) -> int:
        """How many mappings of it this process has."""
        return Path("/proc/self/maps").read_text().count(str(self.path))


@pytest.fixture
def pack(tmp_path: Path) -> Iterator[Pack]:
    """A pack of 4 MiB."""
    made = Pack(tmp_path / "pack", 1024)
    yield made
    os.close(made.fd)


def test_buffers_are_mapped_and_each_is_its_own(native: CheckpointNative, pack: Pack) -> None:
    size = 100 * PAGE
    same = [Extent(0, 10 * PAGE, size)]
    pieces = [Extent(0, 700 * PAGE, 70 * PAGE), Extent(0, 3 * PAGE, 30 * PAGE + 12)]
    one, other, third, none = native.map_extents(
        [pack.fd], [(size, same), (size, same), (size + 12, pieces), (0, [])]
    )
    assert one == other == pack.words[10 * PAGE // 4 : 110 * PAGE // 4].tobytes()
    expected = pack.words[700 * PAGE // 4 : 770 * PAGE // 4].tobytes()
    assert third == expected + pack.words[3 * PAGE // 4 : 33 * PAGE // 4 + 3].tobytes()
    assert (len(none), pack.mappings()) == (0, 4)

    array = np.frombuffer(one, dtype=np.uint32)
    array[:] = 7
    assert other == pack.words[10 * PAGE // 4 : 110 * PAGE // 4].tobytes()
    assert np.array_equal(np.fromfile(pack.path, dtype=np.uint32), pack.words)


def test_memory_is_given_back_with_the_last_that_refers_to_it(native: CheckpointNative, pack: Pack) -> None:
    size = 100 * PAGE

    def array() -> Any:
        [memory] = native.map_extents([pack.fd], [(size, [Extent(0, 0, size)])])
        return np.frombuffer(memory, dtype=np.uint32)

    kept = array()[5:10]
    gc.collect()
    assert pack.mappings() == 1
    assert list(kept) == [0] * 5
    del kept
    assert pack.mappings() == 0


def test_memory_outlives_the_finalizers_of_a_cycle(native: CheckpointNative, pack: Pack) -> None:
    size = 100 * PAGE
    seen = []

    class Holder:
        def __init__(self, memory: memoryview) -> None:
            self.memory = memory
            self.itself = self

        def __del__(self) -> None:
            seen.append(self.memory[50 * PAGE])

    Holder(native.map_extents([pack.fd], [(size, [Extent(0, 0, size)])])[0])
    assert pack.mappings() == 1
    gc.collect()
    assert (seen, pack.mappings()) == ([50], 0)


def test_a_restored_array_is_a_mapping(native: CheckpointNative, pack: Pack) -> None:
    buffers: list[pickle.PickleBuffer] = []
    stream = native.normalise(
        pickle.dumps([pack.words[: 300 * PAGE // 4]], 5, buffer_callback=buffers.append)
    )
    memories = native.map_extents([pack.fd], [(300 * PAGE, [Extent(0, 0, 300 * PAGE)])])
    with native.denormalise(stream) as file:
        [array] = pickle.Unpickler(file, buffers=memories).load()
    del memories
    assert pack.mappings() == 1
    assert np.array_equal(array, pack.words[: 300 * PAGE // 4])
    array += 1
    assert np.array_equal(pickle.loads(pickle.dumps(array, 5)), array)


def test_above_16_000_mappings_the_rest_is_read(native: CheckpointNative, pack: Pack) -> None:
    order = [index * 389 % 1024 for index in range(17_000)]
    extents = [Extent(0, page * PAGE, PAGE) for page in order]
    [memory] = native.map_extents([pack.fd], [(len(order) * PAGE, extents)])
    assert pack.mappings() == 16_000
    words = np.frombuffer(memory, dtype=np.uint32)
    assert list(words[:: PAGE // 4]) == order


def test_an_extent_outside_of_its_pack_is_refused(native: CheckpointNative, pack: Pack) -> None:
    for extent, length, words in [
        (Extent(1, 0, 300_000), 300_000, "lies in pack 1, which is not there"),
        (Extent(0, 1000 * PAGE, 300_000), 300_000, "which has 4194304 bytes"),
        (Extent(0, 2**64 - PAGE, 300_000), 300_000, "which has 4194304 bytes"),
        (Extent(0, 0, 300_000), 300_001, "the runs of buffer 0 are not its 300001 bytes"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            native.map_extents([pack.fd], [(length, [extent])])
    assert pack.mappings() == 0
