"""The whole corpus: every value is right or left out as its case says, none silently wrong."""

from __future__ import annotations

import pytest

from . import corpus


@pytest.mark.parametrize("group", corpus.GROUPS)
def test_every_value_is_right_or_left_out_with_its_reason(group: str) -> None:
    results = corpus.run(group)
    wrong = [result for result in results if result.outcome not in ("right", "left out")]
    assert wrong == []


def test_the_corpus_is_as_large_as_it_says() -> None:
    names = [(group, case.name) for group in corpus.GROUPS for case in corpus.read(group)]
    assert len(names) == len(set(names)) >= 640
