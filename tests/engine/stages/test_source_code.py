"""Which code a fingerprint covers, and which changes of it count."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from limbeck.core.divergence import kl
from limbeck.core.objective import Match, Objective
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import describe_model
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.stages.script_code import own_code
from limbeck.engine.stages.source_code import is_own, what_code_does

Loader = Callable[[dict[str, str]], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """Writes scripts into a directory of their own and imports the first, as a new process would."""
    count = 0

    def loaded(scripts: dict[str, str]) -> ModuleType:
        nonlocal count
        count += 1
        place = tmp_path / str(count)
        place.mkdir()
        for name, text in scripts.items():
            (place / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(place)
            return importlib.import_module(next(iter(scripts)))

    return loaded


HEAD = "from torch import nn\n\nWIDTH = 3\n\nclass Head(nn.Module):\n    size = 1\n"
BASE = "import limbeck\n\nclass Mixed(limbeck.DGM):\n    def generate(self, sites, x=None):\n        pass\n"
MODELS = {
    "a part": {
        "own_flat": "import limbeck\nfrom own_blocks import Head\n\nclass Flat(limbeck.DGM):\n"
        "    def generate(self, sites, x=None):\n        Head()\n",
        "own_blocks": HEAD,
    },
    "a module": {
        "own_flat": "import limbeck\nimport own_blocks\n\nclass Flat(limbeck.DGM):\n"
        "    def generate(self, sites, x=None):\n        own_blocks.Head()\n",
        "own_blocks": HEAD,
    },
    "a constant": {
        "own_flat": "import limbeck\nfrom own_blocks import WIDTH\n\nclass Flat(limbeck.DGM):\n"
        "    def generate(self, sites, x=None):\n        WIDTH\n",
        "own_blocks": HEAD,
    },
    "a base": {"own_flat": "import own_base\n\nclass Flat(own_base.Mixed):\n    pass\n", "own_base": BASE},
    "a base's part": {
        "own_flat": "import own_base\n\nclass Flat(own_base.Mixed):\n    pass\n",
        "own_base": f"import own_blocks\n{BASE}",
        "own_blocks": HEAD,
    },
}


@pytest.mark.parametrize("scripts", MODELS.values(), ids=MODELS)
def test_scripts_beside_a_models_script_count(load: Loader, scripts: dict[str, str]) -> None:
    """They are in no package together, and yet the model is made of them."""

    def code(scripts: dict[str, str]) -> str:
        return str(describe_model(load(scripts).Flat())["code"])

    *_, last = scripts
    first = code(scripts)
    assert first == code({**scripts, last: f"# why\n{scripts[last]}"})
    assert first == code({**scripts, "own_unrelated": "X = 1\n"})
    assert first != code({**scripts, last: f"{scripts[last]}\nX = 1\n"})


HELPER = "SCALE = 1.0\n"
OBJECTIVES = {
    "a function": "from own_helper import SCALE\n\ndef divergence(p, q):\n    return SCALE\n",
    "a module": "from torch import nn\nimport own_helper\n\nclass D(nn.Module):\n"
    "    def forward(self, p, q):\n        return own_helper.SCALE\n\ndivergence = D()\n",
    "a base": "from torch import nn\nfrom own_helper import *\n\nclass B(nn.Module):\n"
    "    def forward(self, p, q):\n        return SCALE\n\nclass D(B):\n    pass\n\ndivergence = D()\n",
    "an object": "import own_helper as h\n\nclass D:\n"
    "    def __call__(self, p, q):\n        return h.SCALE\n\ndivergence = D()\n",
    "a part of it": "import functools\nimport own_helper as h\n\ndef two(p, q, by):\n    return by * h.SCALE\n\n"
    "divergence = functools.partial(two, by=2)\n",
}


@pytest.mark.parametrize("script", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("place", ["divergence", "coupling"])
def test_own_code_of_an_objective_counts(load: Loader, script: str, place: str) -> None:
    """What a divergence or a coupling of one's own does may be changed in its script, or in one that it imports."""

    def key(script: str, helper: str) -> str:
        own = load({"own_divergence": script, "own_helper": helper}).divergence
        match = Match("y", divergence=own if place == "divergence" else kl)
        found = Objective([match]) if place == "divergence" else Objective([match], own)
        return fingerprint(objective=describe_objective(found))

    first = key(script, HELPER)
    assert first == key(f"# why\n{script}", HELPER)
    assert first != key(script, "SCALE = 2.0\n")
    assert first != key(f"{script}\nOTHER = 1\n", HELPER)


def test_settings_of_an_own_module_count(load: Loader) -> None:
    """Its text need not say with what it was constructed."""
    script = (
        "from torch import nn\n\nclass D(nn.Module):\n    def __init__(self, scale):\n"
        "        super().__init__()\n        self.scale = scale\n"
    )
    kind = load({"own_divergence": script}).D
    keys = {fingerprint(objective=describe_objective(Objective([Match("y", divergence=kind(s))]))) for s in (1.0, 2.0)}
    assert len(keys) == 2


def test_what_is_imported_later_does_not_count(load: Loader) -> None:
    """It may or may not be loaded by now, and a fingerprint must be the same in every process."""
    scripts = {"own_flat": f"{BASE}\ndef late():\n    import own_blocks\n", "own_blocks": HEAD}
    script = load(scripts)
    before = describe_model(script.Mixed())
    sys.modules["own_blocks"] = ModuleType("own_blocks")
    assert describe_model(script.Mixed()) == before


def test_code_that_a_version_identifies_is_not_read() -> None:
    assert own_code(kl, Match, Objective([]), importlib.import_module("torch").nn.Linear) is None
    assert [is_own(name) for name in ("json", "torch", "pytest", "limbeck.core.graph", "nothing", "__main__")] == [
        False
    ] * 6
    assert is_own(__name__)


CODE = '''"""What it is."""
from package.parts import head
import numpy as np

class Model:
    """Says."""
    size = 3  # because

    def generate(self):
        """Does."""
        return head(
            np.zeros(self.size), "text"
        )
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it is."""\n', ""),
        ("package.parts", "package.rooms.parts"),
        ("package.parts", ".parts"),
        ("from package.parts import head\nimport numpy as np", "import numpy as np\nfrom package.parts import head"),
        ("  # because", ""),
        ('(\n            np.zeros(self.size), "text"\n        )', "(np.zeros(self.size), 'text')"),
        ('        """Does."""\n', '        """Does it well."""\n'),
    ],
)
def test_what_changes_nothing_does_not_count(old: str, new: str) -> None:
    assert old in CODE
    assert what_code_does(CODE.replace(old, new), {"package"}) == what_code_does(CODE, {"package"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 3", "size = 4"),
        ("import head", "import heart as head"),
        ("numpy as np", "torch as np"),
        ("from package.parts", "from other.parts"),
        ('"text"', '"test"'),
        ("zeros", "ones"),
    ],
)
def test_what_changes_something_counts(old: str, new: str) -> None:
    assert old in CODE
    assert what_code_does(CODE.replace(old, new), {"package"}) != what_code_does(CODE, {"package"})


def test_code_that_is_no_whole_is_told_as_it_is() -> None:
    assert what_code_does("class A(:") == "class A(:"
