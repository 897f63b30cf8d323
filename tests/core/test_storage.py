"""Saved models: what can go wrong with a directory, and what is said about it."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from limbeck.core.graph import DGM
from limbeck.core.storage import CONFIG, WEIGHTS
from limbeck.errors import ModelError, StorageError
from limbeck.layouts import Reader
from limbeck.models import LadderVAE
from tests.small_models import Angular, Bits, Mixed
from tests.zoo import ladder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Mixed(4).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(directory: Path, **changes) -> None:
    record = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps(record | changes))


def test_what_is_written(saved: Path) -> None:
    assert json.loads((saved / CONFIG).read_text()) == {"class": "tests.small_models.Mixed", "config": {"width": 4}}
    assert load_file(saved / WEIGHTS).keys() == Mixed(4).state_dict().keys()


def test_a_saved_model_outlives_the_file_of_its_class(tmp_path: Path) -> None:
    """The public name is written, and where an older file names a module that has moved, the name above it is found."""
    model = ladder(4)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["class"] == "limbeck.models.LadderVAE"
    for path in ("limbeck.models.LadderVAE", "limbeck.models.ladder_vae.LadderVAE", "limbeck.models.moved.LadderVAE"):
        rewrite(tmp_path, **{"class": path})
        for expected in (DGM, LadderVAE):
            assert type(expected.from_pretrained(tmp_path)) is LadderVAE


def test_saving_again_replaces(saved: Path) -> None:
    model = Mixed(7)
    model.save_pretrained(saved)
    assert torch.equal(Mixed.from_pretrained(saved).logits, model.logits)
    assert sorted(p.name for p in saved.iterdir()) == [CONFIG, WEIGHTS]


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.*not a directory"):
        DGM.from_pretrained(tmp_path / "nowhere")


def test_missing_config(saved: Path) -> None:
    (saved / CONFIG).unlink()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        Mixed.from_pretrained(saved)


def test_missing_weights(saved: Path) -> None:
    (saved / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        Mixed.from_pretrained(saved)


NOT_OURS = ["", "{", "\x00", "[1, 2]", '"text"', "{}", '{"class": "tests.small_models.Mixed"}',
            '{"class": 5, "config": {}}',
            '{"class": "tests.small_models.Mixed", "config": [4]}']  # fmt: skip


@pytest.mark.parametrize("text", NOT_OURS)
def test_config_that_is_not_ours(saved: Path, text: str) -> None:
    (saved / CONFIG).write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        Mixed.from_pretrained(saved)


@pytest.mark.parametrize("left", [0, 1, 7, 8, 40, -1])
def test_truncated_weights(saved: Path, left: int) -> None:
    whole = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(whole[:left])
    with pytest.raises(ModelError, match=r"model\.safetensors is corrupt"):
        Mixed.from_pretrained(saved)


def test_weights_of_noise(saved: Path) -> None:
    (saved / WEIGHTS).write_bytes(bytes(range(256)) * 8)
    with pytest.raises(ModelError, match="corrupt"):
        Mixed.from_pretrained(saved)


def test_a_pickle_is_not_loaded(saved: Path) -> None:
    torch.save(Mixed(4).state_dict(), saved / WEIGHTS)
    with pytest.raises(ModelError, match="corrupt"):
        Mixed.from_pretrained(saved)


def test_wrong_class(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"holds a tests\.small_models\.Mixed, not the expected Bits"):
        Bits.from_pretrained(saved)


@pytest.mark.parametrize("path", ["some.where.Model", "Model", "", "limbeck.models.no_such_file.Model",
                                  "limbeck.models.ladder_vae.NoSuchModel", "json.JSONDecoder", "os.system",
                                  "limbeck.core.storage.load", "limbeck.__main__.Model"])  # fmt: skip
def test_a_class_that_is_unknown_or_no_model(saved: Path, path: str) -> None:
    rewrite(saved, **{"class": path})
    with pytest.raises(ModelError, match=r"import|upgrade|expected DGM"):
        DGM.from_pretrained(saved)


def test_another_librarys_layout(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader is asked, of the class that was expected or of one below it, and no other."""
    monkeypatch.setattr(
        Mixed, "from_there", classmethod(lambda cls, directory: cls(int(directory.name))), raising=False
    )
    monkeypatch.setattr(
        "limbeck.core.storage.FOREIGN", {"index.json": Reader("tests.small_models.Mixed", "from_there")}
    )
    (saved / "index.json").write_text("{}")
    theirs = saved.rename(saved.with_name("7"))
    for loaded in (
        DGM.from_pretrained(theirs, map_location="meta"),
        Mixed.from_pretrained(theirs, map_location="meta"),
    ):
        assert isinstance(loaded, Mixed)
        assert loaded.config == {"width": 7}
        assert loaded.logits.is_meta
    with pytest.raises(ModelError, match=r"holds a tests\.small_models\.Mixed, not the expected Bits"):
        Bits.from_pretrained(theirs)


def test_a_directory_cannot_import_a_module_of_its_choosing(saved: Path, monkeypatch) -> None:
    (saved / "payload_of_a_model.py").write_text("raise SystemExit('the payload ran')")
    monkeypatch.syspath_prepend(str(saved))
    rewrite(saved, **{"class": "payload_of_a_model.Model"})
    with pytest.raises(ModelError, match="not imported"):
        DGM.from_pretrained(saved)


@pytest.mark.parametrize("module", ["limbeck.__main__", "limbeck.pictures"])
def test_nor_one_of_the_library_that_holds_no_models(saved: Path, monkeypatch, module: str) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    rewrite(saved, **{"class": f"{module}.Model"})
    with pytest.raises(ModelError, match="upgrade"):
        DGM.from_pretrained(saved)
    assert module not in sys.modules
    runpy.run_module("limbeck.__main__")  # not the command line, which would end the process


def test_the_librarys_own_models_need_no_import(tmp_path: Path) -> None:
    model = ladder(4)
    model.save_pretrained(tmp_path)
    assert isinstance(DGM.from_pretrained(tmp_path), LadderVAE)


@pytest.mark.parametrize("config", [{"width": 4, "depth": 2}, {"wdith": 4}])
def test_arguments_that_the_class_does_not_take(saved: Path, config: dict) -> None:
    rewrite(saved, config=config)
    with pytest.raises(ModelError, match=r"config\.json does not fit Mixed"):
        Mixed.from_pretrained(saved)


def test_weights_of_another_size(saved: Path) -> None:
    rewrite(saved, config={"width": 5})
    with pytest.raises(ModelError, match=r"does not fit.*z1\.0\.weight"):
        Mixed.from_pretrained(saved)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_weights_with_other_names(saved: Path, change: str) -> None:
    tensors = load_file(saved / WEIGHTS)
    if change == "missing":
        del tensors["logits"]
    else:
        tensors["logits2"] = torch.zeros(1)
    save_file(tensors, saved / WEIGHTS)
    with pytest.raises(ModelError, match=r"does not fit.*logits"):
        Mixed.from_pretrained(saved)


class Wrapper(DGM):
    def __init__(self, inner: object) -> None:
        super().__init__()

    def generate(self, sites, x=None):
        sites.target("y", sites.standard_normal(1))


@pytest.mark.parametrize("argument", [nn.Linear(1, 1), torch.zeros(1), {1, 2}, object()])
def test_arguments_that_are_no_json(tmp_path: Path, argument: object) -> None:
    with pytest.raises(ModelError, match=r"Wrapper cannot be saved.*plain JSON"):
        Wrapper(argument).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("argument", [{1: 2}, {"a": [{"b": {None: 1}}]}, ({(1, 2): 3},)])
def test_keys_that_json_would_change(tmp_path: Path, argument: object) -> None:
    """The file would be written, and another model read from it."""
    with pytest.raises(ModelError, match=r"Wrapper cannot be saved.*key (1|None|\(1, 2\)),"):
        Wrapper(argument).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Widths(Wrapper):
    def __init__(self, *widths: int) -> None:
        super().__init__(None)


def test_arguments_without_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Widths cannot be saved.*\*widths"):
        Widths(4, 5).save_pretrained(tmp_path / "model")
    Widths().save_pretrained(tmp_path / "model")
    assert Widths.from_pretrained(tmp_path / "model").config == {}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(StorageError):
        Angular().save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="not a directory"):
        Angular.from_pretrained(tmp_path / "model")


class Tied(DGM):
    """Two names of one tensor, a view of another, a buffer, and a part in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = nn.Linear(2, 2)
        self.two.weight = self.one.weight
        self.register_buffer("row", torch.randn(4, 4)[1])
        self.register_buffer("turned", torch.randn(2, 3).T)
        self.low = nn.Parameter(torch.randn(3).half())

    def generate(self, sites, x=None):
        sites.target("y", sites.standard_normal(1))


def test_tied_and_strided_tensors_and_their_dtypes(tmp_path: Path) -> None:
    model = Tied()
    model.save_pretrained(tmp_path)
    loaded = Tied.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
        assert tensor.dtype == loaded.state_dict()[name].dtype
    assert loaded.one.weight is loaded.two.weight
    loaded = Tied().double()
    loaded.save_pretrained(tmp_path)
    again = Tied.from_pretrained(tmp_path)
    assert again.one.weight is again.two.weight
    assert again.one.weight.dtype == again.row.dtype == torch.float64


def test_map_location(saved: Path) -> None:
    model = Mixed.from_pretrained(saved, map_location="meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
