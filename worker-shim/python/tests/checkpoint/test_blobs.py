"""Large texts and bytes: out of the stream, and still one object where they were one."""

from __future__ import annotations

from pathlib import Path

from cellblock_worker import checkpoint

from .restore import restore


def test_large_texts_and_bytes_come_back_as_they_were(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
text = "x" * 300_000
wide = "ä€😀" * 100_000 + "\\ud800"
raw = b"r" * 300_000
changeable = bytearray(raw)
class Own: pass
own = Own(); own.text, own.raw = text, raw
parts = {"all": [text, wide, raw, changeable], text: 1}
many = [text] + [str(number) * 300_000 for number in range(3)]
""",
        """
assert own.text is text is parts["all"][0] is many[0] and own.raw is raw is parts["all"][2]
assert parts["all"][1] is wide and wide == "ä€😀" * 100_000 + "\\ud800" and text == "x" * 300_000
assert parts["all"][3] is changeable and changeable == raw == b"r" * 300_000 and type(changeable) is bytearray
assert many[3] == "2" * 300_000 and parts[text] == 1
changeable.append(1)
""",
    )
    assert told.left_out == told.losses == []


def test_they_are_no_part_of_the_stream() -> None:
    class Own:
        pass

    Own.__module__ = "__main__"
    own = Own()
    own.text = "x" * 300_000  # type: ignore[attr-defined]
    many = [bytes([number % 256]) * 40_000 for number in range(2_000)]
    held = {"text": "y" * 300_000, "parts": [["z" * 300_000]], "many": many, "own": own}
    saved = checkpoint.save(checkpoint.Subject(held))
    assert len(saved.stream) < 200_000
    assert sum(one.nbytes for one in saved.buffers) == 3 * 300_000 + 2_000 * 40_000
