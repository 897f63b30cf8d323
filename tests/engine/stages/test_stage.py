"""Stages: nothing is repeated, mixed up or lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.engine.stages.progress import SilentProgress
from limbeck.engine.stages.stage import Stage
from limbeck.errors import StorageError
from tests.tiny import Tiny, built, in_child


class Listener(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_life(tmp_path: Path) -> None:
    listener, folder = Listener(), tmp_path / "a" / "b"
    stage = Stage(folder, "training", "key")
    assert stage.result is None
    assert not stage.begun
    stage.begin(listener)
    assert stage.begun
    assert stage.result is None
    stage.finish({"seconds": 3.0})
    again = Stage(folder, "training", "key")
    assert again.result == {"seconds": 3.0}
    assert Stage(folder, "training", "another").result is None
    assert listener.messages == []


def test_going_on_keeps_what_is_there(tmp_path: Path) -> None:
    Stage(tmp_path / "a", "training", "key").begin(Listener())
    (tmp_path / "a" / "last.ckpt").write_text("half way")
    Stage(tmp_path / "a", "training", "key").begin(Listener())
    assert (tmp_path / "a" / "last.ckpt").read_text() == "half way"


def test_results_of_other_settings_are_moved_aside(tmp_path: Path) -> None:
    folder, listener = tmp_path / "student", Listener()
    for key in ("one", "two", "one", "two"):
        stage = Stage(folder, "training", key)
        assert stage.result is None
        stage.begin(listener)
        (folder / "model.safetensors").write_text(key)
        stage.finish({})
    kept = [path for path in tmp_path.iterdir() if path != folder]
    assert sorted((path / "model.safetensors").read_text() for path in kept) == ["one", "one", "two"]
    assert len(listener.messages) == 3
    assert all("is kept as student.replaced-" in text for text in listener.messages)


@pytest.mark.parametrize("content", ["", "{", '{"key": "mi', "[1, 2]", "null"])
def test_damaged_record(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "training.json").write_text(content)
    (folder / "last.ckpt").write_text("of unknown origin")
    stage = Stage(folder, "training", "mine")
    assert stage.result is None
    stage.begin(Listener())
    assert not (folder / "last.ckpt").exists()
    assert stage.begun
    aside = next(path for path in tmp_path.iterdir() if path != folder)
    assert (aside / "last.ckpt").exists()


def test_model_without_record_is_not_overwritten(tmp_path: Path) -> None:
    built().save_pretrained(tmp_path / "mine")
    Stage(tmp_path / "mine", "training", "key").begin(Listener())
    assert Tiny.from_pretrained(tmp_path / "mine.replaced-unknown")


def test_working_directory_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built().save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(StorageError, match="choose another directory"):
        Stage(Path(), "training", "key").begin(Listener())
    assert (tmp_path / "mine" / "model.safetensors").exists()


def test_remains_of_a_killed_write_are_removed(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "a", "training", "key")
    stage.begin(Listener())
    (tmp_path / "a" / ".limbeck-0123.tmp").write_bytes(b"half")
    stage.begin(Listener())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["training.json"]


def test_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file, not a directory"):
        Stage(tmp_path / "file" / "a", "training", "key").begin(Listener())


def test_other_processes_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    stage = Stage(tmp_path / "a", "training", "key")

    def main_process() -> None:
        monkeypatch.setenv("LOCAL_RANK", "0")
        stage.begin(Listener())

    monkeypatch.setattr("limbeck.engine.stages.stage.time.sleep", lambda seconds: in_child(main_process))
    stage.begin(Listener())
    assert stage.begun


def test_other_processes_do_not_wait_for_the_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    parents = iter([1234, 1234, 1])
    monkeypatch.setattr("limbeck.engine.stages.stage.os.getppid", lambda: next(parents))
    with pytest.raises(StorageError, match="main process ended"):
        Stage(tmp_path / "a", "training", "key").begin(Listener())
    assert not (tmp_path / "a").exists()
