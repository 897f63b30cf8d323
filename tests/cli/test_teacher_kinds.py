"""Which kind of teacher a value of ``--teacher`` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.cli.teacher_kinds import Pipeline, SavedModel, TeacherKind, ZukoWeights, teacher_kind


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipe").mkdir()
    Path("pipe/model_index.json").write_text("{}")
    Path("weights.bin").write_bytes(b"")
    Path("runs/teacher").mkdir(parents=True)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("nowhere.safetensors", ZukoWeights),
        ("weights.bin", ZukoWeights),
        ("pipe", Pipeline),
        ("google/ddpm-cifar10-32", Pipeline),
        ("runs/teacher", SavedModel),
        ("./nowhere", SavedModel),
        ("nowhere", SavedModel),
    ],
)
def test_kinds(given: str, kind: type[TeacherKind]) -> None:
    assert type(teacher_kind(given)) is kind
