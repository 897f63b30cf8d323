"""What of a model counts besides its weights: its class, its arguments, its code."""

from __future__ import annotations

import importlib

from limbeck.engine.stages.model_description import describe_model
from tests.tiny import Tiny, built


def test_model() -> None:
    assert describe_model(built()) == describe_model(built(seed=1))
    assert describe_model(built()) != describe_model(built(width=5))
    assert describe_model(Tiny(4)) == describe_model(Tiny(width=4))


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
