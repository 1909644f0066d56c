"""Random programs with a restore after each cell end as without; `programs` runs more of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from . import programs

PROGRAMS = 200


def test_programs_do_the_same_with_a_restore_after_each_cell() -> None:
    halves = [range(PROGRAMS // 2), range(PROGRAMS // 2, PROGRAMS)]
    with ThreadPoolExecutor(2) as pool:
        failed = [told for block in pool.map(programs.run_block, halves) for told in block]
    assert failed == []
