"""A cell prints much, the client reads slowly: what does that cost cellblockd and the shim, and what arrives?

Two runs. In the first the profile's cap on output is above what is printed: every byte must arrive. In the
second it is the default profile's: head and tail must arrive, and between them one `truncated` that says
how much is missing. In both the memory of daemon and shim must stay flat.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# Started as a program, Python searches this folder and not the one above, where `bench` is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cellblock
from bench.figures import aligned
from bench.memory import Sample, Sampler, parent_of

LINE_BYTES: Final = 1000
FLAT_BYTES: Final = 64 << 20
"""Daemon and shim may hold this much of an Execution each, however much is printed."""
MIB: Final = 1 << 20
PATIENCE_SECONDS: Final = 30.0
"""So long the shim stops a writer whom nobody reads; then the cell goes on, and a gap is right."""

# Every line differs, so that a byte lost, doubled or out of place shows.
_LINE: Final = "{:09d} " + "." * (LINE_BYTES - 11) + "\n"
_CODE: Final = """\
line = {line!r}
for number in range({lines}):
    print(line.format(number), end="")
"""


@dataclass(slots=True)
class Arrived:
    """What the client got of one run, compared with what was printed as it came."""

    printed: int
    received: int = 0
    head: int = 0
    """Bytes received before the first gap."""
    dropped: int = 0
    gaps: list[str] = field(default_factory=list)
    wrong: int = 0
    """Outputs whose bytes are not those that were printed at that place."""
    seconds: float = 0.0
    end: str = ""

    def take(self, output: cellblock.Output) -> None:
        """Checks an output against the place it must come from."""
        if isinstance(output, cellblock.Truncated):
            if not self.gaps:
                self.head = self.received
            self.gaps.append(output.reason)
            self.dropped += output.dropped_bytes
        elif isinstance(output, cellblock.Stream) and output.name == "stdout":
            place = self.received + self.dropped
            self.received += len(output.data)
            self.wrong += output.data != printed_at(place, len(output.data))
        else:
            self.wrong += 1

    @property
    def whole(self) -> bool:
        """Every byte is accounted for: received, or said to be dropped."""
        return not self.wrong and self.received + self.dropped == self.printed


@dataclass(slots=True)
class Run:
    """One run, and the memory of daemon and shim in it."""

    name: str
    gap: bool
    """Whether output must be missing."""
    arrived: Arrived
    samples: dict[str, list[Sample]]

    @property
    def problems(self) -> list[str]:
        """What is not as it must be."""
        found = []
        arrived = self.arrived
        if not arrived.whole:
            found.append(
                f"of {arrived.printed} bytes {arrived.received} arrived and {arrived.dropped} are said to be "
                f"dropped; {arrived.wrong} outputs are wrong"
            )
        if not self.gap and arrived.dropped:
            found.append("output was dropped below the cap, and there was somebody who read")
        if self.gap and not (arrived.gaps and arrived.head and arrived.received > arrived.head):
            found.append("where output is missing there must be a head, a mark and a tail")
        for name, samples in self.samples.items():
            grown = max(sample.rss for sample in samples) - samples[0].rss
            if grown > FLAT_BYTES:
                found.append(f"{name} grew by {_mib(grown)} MiB")
        return found

    def text(self) -> str:
        """For people."""
        arrived = self.arrived
        lines = [
            f"{self.name}: printed {arrived.printed:,} bytes, received {arrived.received:,}, "
            f"dropped {arrived.dropped:,} in {len(arrived.gaps)} gaps, {arrived.seconds:.1f} s, {arrived.end}"
        ]
        if arrived.gaps:
            tail = arrived.received - arrived.head
            lines.append(f"head {arrived.head:,} bytes, tail {tail:,} bytes; {arrived.gaps[0]}")
        header = ("MiB", "RSS at start", "RSS peak", "RSS at end", "PSS at start", "PSS peak", "PSS at end")
        rows: list[tuple[str, ...]] = [header]
        for name, samples in self.samples.items():
            rss = [sample.rss for sample in samples]
            pss = [sample.pss for sample in samples if sample.pss is not None]
            rows.append((name, *_course(rss), *_course(pss)))
        lines.append(aligned(rows))
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Everything, every sample too."""
        arrived = self.arrived
        return {
            "name": self.name,
            "printed_bytes": arrived.printed,
            "received_bytes": arrived.received,
            "dropped_bytes": arrived.dropped,
            "head_bytes": arrived.head,
            "gaps": arrived.gaps,
            "seconds": arrived.seconds,
            "end": arrived.end,
            "problems": self.problems,
            "memory": {
                name: [
                    {"seconds": round(s.seconds, 2), "rss_bytes": s.rss, "pss_bytes": s.pss} for s in samples
                ]
                for name, samples in self.samples.items()
            },
        }


def printed_at(place: int, length: int) -> bytes:
    """What the cell prints from a place on."""
    first, skip = divmod(place, LINE_BYTES)
    last = (place + length + LINE_BYTES - 1) // LINE_BYTES
    text = "".join(_LINE.format(number) for number in range(first, last))
    return text.encode()[skip : skip + length]


def main() -> int:
    """The command."""
    arguments = _parse()
    printed = arguments.megabytes * 1_000_000
    with tempfile.TemporaryDirectory(prefix="slow-reader-") as profiles:
        profile = f"version = 1\n[limits]\noutput_bytes = {4 * printed}\n"
        Path(profiles, "roomy.toml").write_text(profile)
        with (
            cellblock.LocalSupervisor(
                python=arguments.python, bin_dir=arguments.bin_dir, profiles=profiles
            ) as supervisor,
            supervisor.client() as client,
        ):
            runs = [
                _run(supervisor, client, arguments, name, profile_name, gap)
                for name, profile_name, gap in (
                    ("below the cap", "roomy", arguments.pause_seconds >= PATIENCE_SECONDS),
                    ("beyond the cap", "default", True),
                )
            ]
    print("\n\n".join(run.text() for run in runs))
    if arguments.json:
        arguments.json.write_text(json.dumps([run.as_json() for run in runs], indent=1) + "\n")
    return 1 if any(run.problems for run in runs) else 0


def _run(
    supervisor: cellblock.LocalSupervisor,
    client: cellblock.Client,
    arguments: argparse.Namespace,
    name: str,
    profile: str,
    gap: bool,
) -> Run:
    lines = arguments.megabytes * 1_000_000 // LINE_BYTES
    notebook = client.open(f"printer-{profile}", profile)
    notebook.execute("import sys").wait(timeout=60)
    worker = notebook.status().worker_pid
    if worker is None:
        raise RuntimeError("the notebook has no worker after its first Execution")
    # The worker is a child of the sandbox's init, and that one of the shim.
    pids = {"cellblockd": supervisor.pid, "cellblock-shim": parent_of(parent_of(worker))}
    arrived = Arrived(lines * LINE_BYTES)
    bytes_per_second = arguments.megabytes_per_second * 1e6
    with Sampler(pids) as sampler:
        started = time.monotonic()
        execution = notebook.execute(_CODE.format(line=_LINE, lines=lines))
        time.sleep(arguments.pause_seconds)
        reading = time.monotonic()
        for output in execution:
            arrived.take(output)
            ahead = arrived.received / bytes_per_second - (time.monotonic() - reading)
            if ahead > 0:
                time.sleep(ahead)
        arrived.seconds = time.monotonic() - started
        arrived.end = str(execution.outcome.end) if execution.outcome else "no Outcome"
    notebook.delete()
    return Run(name, gap, arrived, sampler.samples)


def _course(values: list[int]) -> tuple[str, str, str]:
    if not values:
        return ("-", "-", "-")
    return _mib(values[0]), _mib(max(values)), _mib(values[-1])


def _mib(size: int) -> str:
    return f"{size / MIB:.1f}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", type=Path, required=True, help="where cellblockd is")
    parser.add_argument("--python", type=Path, required=True, help="what the workers run")
    parser.add_argument("--megabytes", type=int, default=1000, help="printed in each run [default: 1000]")
    parser.add_argument(
        "--megabytes-per-second", type=float, default=40.0, help="how fast the client reads [default: 40]"
    )
    parser.add_argument(
        "--pause-seconds",
        type=float,
        default=5.0,
        help="how long it reads nothing at first; after 30 the cell goes on alone [default: 5]",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, every sample too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
