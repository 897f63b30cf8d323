"""Stages: nothing is repeated, mixed up or lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.engine.stages.stage import Stage
from limbeck.errors import StorageError
from tests.listening import Recorder
from tests.tiny import Tiny, built, in_child


def test_life(tmp_path: Path) -> None:
    listener, folder = Recorder(), tmp_path / "a" / "b"
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
    Stage(tmp_path / "a", "training", "key").begin(Recorder())
    (tmp_path / "a" / "last.ckpt").write_text("half way")
    Stage(tmp_path / "a", "training", "key").begin(Recorder())
    assert (tmp_path / "a" / "last.ckpt").read_text() == "half way"


def test_results_of_other_settings_are_moved_aside(tmp_path: Path) -> None:
    folder, listener = tmp_path / "student", Recorder()
    for key in ("one", "two", "three"):
        stage = Stage(folder, "training", key)
        assert stage.result is None
        stage.begin(listener)
        assert stage.result is None
        (folder / "model.safetensors").write_text(key)
        stage.finish({"of": key})
    kept = [path for path in tmp_path.iterdir() if path != folder]
    assert sorted((path / "model.safetensors").read_text() for path in kept) == ["one", "two"]
    assert len(listener.messages) == 2
    assert all("is kept as student.replaced-" in text for text in listener.messages)


def test_a_link_to_a_directory(tmp_path: Path) -> None:
    """What it points to is made, moved aside and made again; the link stays."""
    (tmp_path / "link").symlink_to("disk/student")
    for key in ("one", "two", "one"):
        stage = Stage(tmp_path / "link", "training", key)
        with stage.restored_on_failure((), Recorder()), stage.held(Recorder()):
            assert stage.result is None or key == "one"
            (tmp_path / "link/model.safetensors").write_text(key)
            stage.finish({"of": key})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk/student/model.safetensors").read_text() == "one"
    assert len(list((tmp_path / "disk").iterdir())) == 2
    other = Stage(tmp_path / "link", "training", "three")

    def fail() -> None:
        with other.restored_on_failure((), Recorder()):
            other.begin(Recorder())
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert (tmp_path / "link/model.safetensors").read_text() == "one"


def test_going_back_finds_what_was_moved_aside(tmp_path: Path) -> None:
    """Finished work, even where an interrupted attempt lies beside it; and else that."""
    folder, listener = tmp_path / "student", Recorder()
    for key, finished in (("one", True), ("two", False), ("three", True)):
        stage = Stage(folder, "training", key)
        stage.begin(listener)
        (folder / "model.safetensors").write_text(key)
        if finished:
            stage.finish({"of": key})
    (tmp_path / "student.replaced-one").rename(tmp_path / "student.replaced-one~2")
    Stage(tmp_path / "student.replaced-one", "training", "one").begin(listener)  # killed as soon as it began
    for key, result in (("one", {"of": "one"}), ("two", None), ("three", {"of": "three"}), ("one", {"of": "one"})):
        stage = Stage(folder, "training", key)
        stage.begin(listener)
        assert stage.result == result
        assert (folder / "model.safetensors").read_text() == key
        assert "which these settings made before, is back" in listener.messages[-1]


def test_what_is_of_use_to_all_settings_stays(tmp_path: Path) -> None:
    for key in ("one", "two", "one"):
        stage = Stage(tmp_path / "student", "training", key, lasting=["pairs"])
        stage.begin(Recorder())
        (tmp_path / "student" / "pairs").mkdir(exist_ok=True)
        (tmp_path / "student" / "pairs" / key).touch()
    assert {path.name for path in (tmp_path / "student" / "pairs").iterdir()} == {"one", "two"}


@pytest.mark.parametrize("left", ["", "history.csv", "last.ckpt"])
@pytest.mark.parametrize("known", [False, True], ids=["new settings", "settings of before"])
def test_a_failure_leaves_finished_work_as_it_was(tmp_path: Path, left: str, known: bool) -> None:
    """Unless there is something by now that can be continued; and what such an attempt left is never deleted."""
    folder, listener = tmp_path / "student", Recorder()
    for key in ("two", "one") if known else ("one",):
        stage = Stage(folder, "training", key, lasting=["pairs"])
        stage.begin(listener)
        (folder / "model.safetensors").write_text(key)
        stage.finish({"of": key})
    (folder / "pairs").mkdir()
    stage = Stage(folder, "training", "two", lasting=["pairs"])

    def fail() -> None:
        with stage.restored_on_failure(["last.ckpt"], listener):
            stage.begin(listener)
            if left:
                (folder / left).touch()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    back = left != "last.ckpt"
    assert Stage(folder, "training", "one").begun is back
    assert (folder / "pairs").is_dir()
    assert (listener.messages[-1] == f"{folder} is as it was before") is back
    others = sorted(path.name for path in tmp_path.iterdir() if path != folder)
    expected = ["student.replaced-two"] if known or left else []
    assert others == (expected if back else ["student.replaced-one"])
    if known:
        Stage(folder, "training", "two").begin(listener)
        assert Stage(folder, "training", "two").result == {"of": "two"}


def test_held_against_other_processes(tmp_path: Path) -> None:
    """Also where the directory was made by other settings, and so is moved aside with its lock."""

    def other(key: str) -> int:
        try:
            with Stage(tmp_path / "student", "training", key).held(Recorder()):
                return 0
        except StorageError as error:
            return 7 if "another process is working" in str(error) else 8

    for key in ("one", "two"):
        stage = Stage(tmp_path / "student", "training", key)
        with stage.held(Recorder()):
            assert in_child(lambda: other("one")) == in_child(lambda: other("two")) == 7
            assert stage.begun
    assert in_child(lambda: other("one")) == 0


def test_what_cannot_be_read_is_made_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "student", "training", "key")
    stage.begin(Recorder())
    stage.finish({"seconds": 3.0})
    stage.reopen()
    assert stage.begun
    assert stage.result is None


@pytest.mark.parametrize("content", ["", "{", '{"key": "mi', "[1, 2]", "null"])
def test_damaged_record(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "training.json").write_text(content)
    (folder / "last.ckpt").write_text("of unknown origin")
    stage = Stage(folder, "training", "mine")
    assert stage.result is None
    stage.begin(Recorder())
    assert not (folder / "last.ckpt").exists()
    assert stage.begun
    aside = next(path for path in tmp_path.iterdir() if path != folder)
    assert (aside / "last.ckpt").exists()


def test_model_without_record_is_not_overwritten(tmp_path: Path) -> None:
    built().save_pretrained(tmp_path / "mine")
    Stage(tmp_path / "mine", "training", "key").begin(Recorder())
    assert Tiny.from_pretrained(tmp_path / "mine.replaced-unknown")


def test_working_directory_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built().save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(StorageError, match="choose another directory"):
        Stage(Path(), "training", "key").begin(Recorder())
    assert (tmp_path / "mine" / "model.safetensors").exists()


def test_remains_of_a_killed_write_are_removed(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "a", "training", "key")
    stage.begin(Recorder())
    (tmp_path / "a" / ".limbeck-0123.tmp").write_bytes(b"half")
    stage.begin(Recorder())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["training.json"]


def test_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file, not a directory"):
        Stage(tmp_path / "file" / "a", "training", "key").begin(Recorder())


def test_other_processes_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    stage = Stage(tmp_path / "a", "training", "key")

    def main_process() -> None:
        monkeypatch.setenv("LOCAL_RANK", "0")
        stage.begin(Recorder())

    monkeypatch.setattr("limbeck.engine.stages.stage.time.sleep", lambda seconds: in_child(main_process))
    stage.begin(Recorder())
    assert stage.begun


def test_other_processes_do_not_wait_for_the_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    parents = iter([1234, 1234, 1])
    monkeypatch.setattr("limbeck.engine.stages.stage.os.getppid", lambda: next(parents))
    with pytest.raises(StorageError, match="main process ended"):
        Stage(tmp_path / "a", "training", "key").begin(Recorder())
    assert not (tmp_path / "a").exists()
