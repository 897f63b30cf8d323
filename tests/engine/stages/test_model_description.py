"""What of a model counts besides its weights: its class, its arguments, its code."""

from __future__ import annotations

import importlib

import pytest
import torch

from limbeck.engine.stages.fingerprints import fingerprint, weights_fingerprint
from limbeck.engine.stages.model_description import describe_model, model_key
from limbeck.errors import ModelError
from tests.tiny import Tiny, built
from tests.zoo import ZOO, Entry


def test_model() -> None:
    assert describe_model(built()) == describe_model(built(seed=1))
    assert describe_model(built()) != describe_model(built(width=5))
    assert describe_model(Tiny(4)) == describe_model(Tiny(width=4))


def test_finished_model() -> None:
    models = [built(), built(seed=1), built(width=5), built(latents=3)]
    assert len({model_key(model) for model in models}) == len(models)
    assert model_key(built()) == model_key(built())


def test_an_attribute_that_was_changed_counts() -> None:
    """A sampler's ``model.steps = 4``: what was stored of it with other steps is not its own."""
    model = built()
    as_built = model_key(model)
    model.size = 4
    changed = model_key(model)
    model.size = built().size
    assert changed != model_key(model) == as_built


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_models_as_they_were_built_have_changed_nothing(entry: Entry) -> None:
    """The keys of finished work stay."""
    model = entry.teacher()
    assert model_key(model) == fingerprint(model=describe_model(model), weights=weights_fingerprint(model))


def test_arguments_that_are_no_plain_values() -> None:
    """A finished model may be given what cannot be saved: its numbers tell it, or nothing does."""

    def told(argument: object) -> str:
        model = built()
        model.config = {"extra": argument}
        return model_key(model)

    ones = [torch.zeros(2), torch.ones(2), built(), built(seed=1), "text"]
    assert len({told(argument) for argument in ones}) == len(ones)
    assert told(torch.zeros(2)) == told(torch.zeros(2))
    with pytest.raises(ModelError, match="Tiny has no fingerprint"):
        told(object())


def test_code_beside_the_model_in_its_package_counts(tmp_path, monkeypatch) -> None:
    """A model is made of helpers: when one of them changes, so do the weights that come out."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, place in {"first": "one", "same": "one", "changed": "two"}.items():
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "parts.py").write_text(f"def head():\n    return '{place}'\n")
        (package / "unrelated.py").write_text(f"'{name}'\n")
        (package / "model.py").write_text(
            "from limbeck.core.graph import DGM\nfrom .parts import head\n\n"
            "class Model(DGM):\n    def generate(self, sites, x=None):\n        head()\n"
        )
    code = {}
    for name in ("first", "same", "changed"):
        code[name] = describe_model(importlib.import_module(f"{name}.model").Model())["code"]
    assert code["first"] == code["same"] != code["changed"]


@pytest.mark.parametrize("helper", ["package.models.parts", "package.models.room.parts", "package.models.other.parts"])
def test_code_of_the_rooms_beside_and_above_counts(tmp_path, monkeypatch, helper: str) -> None:
    """What shapes a model's weights may have been moved to another room of models; what is no model's is left out."""
    monkeypatch.syspath_prepend(tmp_path)
    code = {}
    for name, (size, said) in {"first": (1, 1), "same": (1, 2), "changed": (2, 1)}.items():
        model, parts, words = (f"{name}_{path}" for path in ("package.models.room.model", helper, "package.words.said"))
        texts = {
            model: f"from limbeck.core.graph import DGM\nfrom {parts} import head\nfrom {words} import say\n\n"
            "class Model(DGM):\n    def generate(self, sites, x=None):\n        head()\n",
            parts: f"def head():\n    return {size}\n",
            words: f"def say():\n    return {said}\n",
        }
        for module, text in texts.items():
            path = tmp_path / f"{module.replace('.', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        code[name] = describe_model(importlib.import_module(model).Model())["code"]
    assert code["first"] == code["same"] != code["changed"]
