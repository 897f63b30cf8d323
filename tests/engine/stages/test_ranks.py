"""Which process of a run this is."""

from __future__ import annotations

import pytest

from limbeck.engine.stages.ranks import RANK_VARIABLES, is_main_process, process_rank


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_process_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_main_process()
    monkeypatch.setenv(name, "0")
    assert is_main_process()
    monkeypatch.setenv(name, "1")
    assert not is_main_process()
    assert process_rank() == "1"


def test_the_number_among_all_processes_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_rank() == "0"
    for name, rank in zip(RANK_VARIABLES, ("5", "1", "2", "3"), strict=True):
        monkeypatch.setenv(name, rank)
    assert process_rank() == "5"
