"""A user's own networks and pictures on the command line: distilled by named layers, measured, every wrong input."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from limbeck.core.graph import DGM
from limbeck.data import Images, as_float
from limbeck.engine.training.history import History
from limbeck.errors import ModelError
from limbeck.models import NetworkClassifier
from tests.tiny import call

NETS = Path(__file__).with_name("networks_of_a_user.py")
STEPS = ["--training.steps=3", "--training.batch_size=4", "--training.log_every=1"]
TEACHER = ["--teacher=nets:build", "--teacher.weights=w.safetensors"]
WORDS = ["distill", *TEACHER, "--student=nets:Net", "--student.width=3", "--data=pictures", *STEPS]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("folder") / "pictures", np.random.default_rng(0)
    for split, rows in (("train", 12), ("test", 4)):
        for shade, label in enumerate(("dark", "light")):
            (root / split / label).mkdir(parents=True)
            for row in range(rows):
                pixels = random.integers(0, 128, (10, 10, 3)) + 127 * shade
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / label / f"{row}.png")
    return root


@pytest.fixture(autouse=True)
def here(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory with a module of networks, the weights of one, and a folder of images; the module is fresh."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copy(NETS, "nets.py")
    Path("pictures").symlink_to(pictures)
    sys.modules.pop("nets", None)
    import nets  # type: ignore[import-not-found]

    torch.manual_seed(0)
    save_file(nets.build().state_dict(), "w.safetensors")
    del sys.modules["nets"]
    yield
    sys.modules.pop("nets", None)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split())


def test_the_readmes_command_distils_and_the_student_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*WORDS, "--match", "layer1->layer1:vid", "--match=logits:kd@2", "--out=small") == 0, told(capsys)
    out = told(capsys)
    assert "Teacher: 524 parameters" in out
    assert re.search(r"Student: 182 parameters, [\d.]+ % of 8 test images right", out)
    assert re.search(r"[1-9]\d* parameters were learned beside the student: objective\.safetensors", out)
    assert {"vid/layer1", "kd/logits"} <= set(History.read("small/history.csv").columns)
    # The teacher is the user's, and stays so; the student is both ours and theirs.
    import nets

    module = nets.Net(3)
    module.load_state_dict(load_file("small/weights.safetensors"))
    student = DGM.from_pretrained("small")
    assert isinstance(student, NetworkClassifier)
    assert (student.config["network"], student.config["settings"]) == ("nets:Net", {"width": 3})
    images = torch.rand(4, 3, 10, 10)
    logits = student.trace(x=images)["logits"].value
    torch.testing.assert_close(module.eval()(images), logits)
    assert Path("small/objective.safetensors").is_file()  # the divergence's own weights

    assert call("evaluate", "small", "--data=pictures", "--import=nets", "--evaluation.timing=0.01") == 0
    out = told(capsys)
    assert "test accuracy" in out
    assert "KL from the teacher" not in out
    assert re.search(r"most frequent class, accuracy [\d.]+ %", out)


def test_a_model_directory_imports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*WORDS, "--out=small") == 0
    del sys.modules["nets"]
    with pytest.raises(ModelError, match=r"not imported.*--import=nets"):
        DGM.from_pretrained("small")
    assert call("evaluate", "small", "--data=pictures") == 1
    assert "--import=nets" in told(capsys)
    assert "nets" not in sys.modules


def test_patterns_shared_constants_and_torch_weights_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    import nets

    torch.save({"state_dict": {f"module.{n}": t for n, t in nets.build().state_dict().items()}}, "w.pt")
    constants = ["--mean=[0.4,0.5,0.6]", "--std=[0.2,0.2,0.25]", "--task_weight=0.5"]
    words = [*WORDS, "--teacher.weights=w.pt", "--match=layer*:at@10", "--match=stem:fitnet", *constants]
    assert call(*words) == 0, told(capsys)
    student = DGM.from_pretrained("student")
    assert student.features == {"layer1": "layer1", "stem": "stem"}
    assert student.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert {"at/layer1", "fitnet/stem", "task/y|data"} <= set(History.read("student/history.csv").columns)
    # A saved student is the next one's teacher, and brings its constants along.
    again = ["distill", "--teacher=student", "--student=nets:Other", "--data=pictures", *STEPS, "--out=third"]
    assert call(*again, "--match=layer1->body:vid") == 0, told(capsys)
    assert DGM.from_pretrained("third").mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_the_teachers_outputs_are_kept_once_for_the_same_student(capsys: pytest.CaptureFixture[str]) -> None:
    """The student is the one without a cache, and the teacher's outputs are beside it."""
    words = [*WORDS, "--match=layer1:vid", "--training.augmentation.padding=1", "--training.augmentation.views=2"]
    assert call(*words, "--out=plain") == 0, told(capsys)
    assert call(*words, "--out=kept", "--teacher_cache={}") == 0, told(capsys)
    plain, kept = (load_file(f"{name}/weights.safetensors") for name in ("plain", "kept"))
    assert all(torch.equal(plain[name], kept[name]) for name in plain)
    assert not Path("plain/teacher").exists()
    (manifest,) = Path("kept/teacher").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["rows"] == 2 * 22  # views; of 24 images two are for validation
    assert call(*words, "--out=half", "--teacher_cache.dtype=float16", "--teacher_cache.limit_bytes=100000") == 0
    (half,) = Path("half/teacher").glob("*/manifest.json")
    assert "float16" in half.read_text()
    assert "float16" not in manifest.read_text()
    assert call(*words, "--out=refused", "--teacher_cache.limit_bytes=100") == 2
    assert "more than limit_bytes (100 B); raise it" in told(capsys)


def test_a_network_of_this_library_may_be_the_student(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "distill",
        *TEACHER,
        "--student=ConvNet",
        "--student.widths=[3,4]",
        "--student.classes=2",
        "--data=pictures",
    ]
    assert call(*words, *STEPS, "--match=layer1->h[1]:fitnet", "--match", "fc->h[0]:vid") == 0, told(capsys)
    student = DGM.from_pretrained("student")
    assert student.features == {"h[1]": "blocks.1", "h[0]": "blocks.0"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--match=layr1:vid"], "--match layr1:vid: the teacher's Net has no module 'layr1'; near: layer1"),
        (["--match=layer1->layr1:vid"], "--match layer1->layr1:vid: the student's Net has no module 'layr1'"),
        (["--student=nets:Other", "--student.width=", "--match=layer1:vid"], "does not take these settings"),
        (["--match=layer1:vod"], "no divergence is called 'vod'; did you mean vid"),
        (["--match=layer1"], "is no match; write TEACHER->STUDENT:NAME@WEIGHT"),
        (["--match=block*:vid"], "no layer of the teacher is called 'block*'; there are stem, layer1, fc"),
        (["--teacher.weights=none.safetensors"], "the file of weights none.safetensors does not exist"),
        (["--teacher.weights=nets.py"], "nets.py is not a state dict"),
        (["--teacher.width=5"], "holds weights of another network than nets:build builds: "),
        (["--teacher=nets:bild"], "the module nets has no 'bild'; did you mean build?"),
        (["--teacher=nots:build"], "--teacher=nots:build: No module named 'nots'"),
        (["--teacher=nets:unsaid"], "no function annotated to return one"),
        (["--teacher=nets:number"], "no function annotated to return one"),
        (["--student.width=-4"], "--student=nets:Net with width=-4: RuntimeError: "),
        (["--teacher=nets:Alpha", "--teacher.weights="], "the teacher cannot run on the images of pictures, 3x10x10"),
        (
            ["--teacher.classes=3", "--student.classes=3", "--teacher.weights="],
            "the student has 3 classes, but pictures has 2 (dark, light)",
        ),
        (["--student.depth=3"], "nets:Net does not take these settings"),
        (["--student.classes=1"], "the student has 1 classes, but the labels of pictures go up to 1"),
        (["--data=nowhere/images"], "--data=nowhere/images: there is no such directory"),
        (["--mean=[0.5]"], "give --mean and --std together"),
        (["--training.stps=3"], "did you mean training.steps"),
        (["--teacher_cache={}", "--training.augmentation.padding=1"], "teacher_cache: rows are augmented anew each"),
        (["--teacher_cache.dtype=int8"], "Expected a typing.Literal['float32', 'float16']. Got value: int8"),
        (["--teacher_cache.type=float16"], "did you mean dtype?"),
        (["--student=ConvNet", "--match=layer1:fitnet"], "the student's ConvNet has no module 'layer1'"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_written(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [word for word in WORDS if word.partition("=")[0] not in {given.partition("=")[0] for given in words}]
    if "--student=ConvNet" in words or "--student=nets:Other" in words:
        kept.remove("--student.width=3") if "--student.width=3" in kept else None
        words = [*words, "--student.widths=[3]"] if "--student=ConvNet" in words else words
    assert call(*kept, *(word for word in words if word != "--teacher.weights=")) in (1, 2)
    assert expected in told(capsys)
    assert not Path("student").exists()


def test_a_teacher_of_other_classes_teaches_features_and_no_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    """Its features can be learned from, its predictions cannot."""
    import nets

    save_file(nets.build(classes=5).state_dict(), "w.safetensors")
    words = [*WORDS, "--teacher.classes=5"]
    assert call(*words, "--match=logits:kd") == 2
    assert "--match: " in told(capsys)
    assert not Path("student").exists()
    assert call(*words, "--match=layer1:vid", "--match=logits->penultimate:vid-lp") == 0, told(capsys)
    assert "trained for other classes" in told(capsys)


def test_labels_are_matched_by_the_names_of_classes(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The labels of a saved teacher's classes are matched by name: without ``dark``, ``light`` stays class 1."""
    for split in ("train", "test"):
        for label in ("dark", "grey", "light"):
            shutil.copytree(pictures / split / label.replace("grey", "dark"), tmp_path / "more" / split / label)
        for label in ("grey", "light"):
            shutil.copytree(tmp_path / "more" / split / label, tmp_path / "fewer" / split / label)
    own = [
        "distill",
        "--teacher=nets:build",
        "--student=nets:Net",
        "--teacher.classes=3",
        "--student.classes=3",
        *STEPS,
    ]
    assert call(*own, "--data=more", "--out=first") == 0, told(capsys)
    assert json.loads(Path("first/classes.json").read_text()) == ["dark", "grey", "light"]
    again = ["distill", "--teacher=first", "--student=nets:Other", "--student.classes=3", *STEPS]
    del sys.modules["nets"]  # as in a new process, where what builds the student names the module
    assert call(*again, "--data=fewer", "--out=second") == 0, told(capsys)
    assert json.loads(Path("second/classes.json").read_text()) == ["dark", "grey", "light"]
    assert call("evaluate", "first", "--data=fewer", "--import=nets", "--evaluation.timing=0.01") == 0
    test = Images(path="fewer", size=10).load().test
    found = DGM.from_pretrained("first").trace(x=as_float(test.images))["logits"].value.argmax(1)
    right = (found == test.labels + 1).double().mean()
    assert f"test accuracy {100 * right:.2f} %" in told(capsys)

    assert call(*again, "--data=fewer", "--out=dkd", "--match=logits:dkd", "--task_weight=0") == 0, told(capsys)
    assert json.loads(Path("dkd/classes.json").read_text()) == ["dark", "grey", "light"]

    Path("fewer/train/light").rename("fewer/train/bright")
    Path("fewer/test/light").rename("fewer/test/bright")
    assert call(*again, "--data=fewer", "--out=third") == 2
    assert "fewer has the classes bright, which the teacher was not trained for; it knows dark, grey" in told(capsys)
    words = [word for word in again if word != "--student.classes=3"]
    assert call(*words, "--data=fewer", "--out=third", "--match=layer1->body:vid") == 0, told(capsys)
    assert json.loads(Path("third/classes.json").read_text()) == ["bright", "grey"]
    # A network that was built tells no names: more outputs than folders are refused, unless labels are not used.
    assert call(*own, "--data=fewer") == 2
    assert "so its labels may be of other classes than the outputs" in told(capsys)
    assert call(*own, "--data=fewer", "--task_weight=0") == 0, told(capsys)
    two = [word.replace("classes=3", "classes=2") for word in own]
    assert call(*two, "--data=more", "--task_weight=0", "--match=logits:dkd") == 2
    assert "the student has 2 classes, but the labels of more go up to 2" in told(capsys)
    assert call(*two, "--data=more", "--task_weight=0") == 0, told(capsys)


def test_pictures_that_are_not_square_need_a_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("a", "b"):
        folder = tmp_path / "wide" / label
        folder.mkdir(parents=True)
        for row in range(12):
            Image.fromarray(np.full((6, 8), 20 * row, dtype=np.uint8)).save(folder / f"{row}.png")
    wide = [*WORDS, "--data=wide"]
    assert call(*wide) == 2
    assert "images are 8 x 6 pixels" in told(capsys)
    assert call(*wide, "--data.size=8") == 2  # grey, as the images are
    assert "cannot run on the images of wide, 1x8x8 each" in told(capsys)
    assert call(*wide, "--data.size=8", "--data.channels=3") == 0, told(capsys)


def test_a_text_of_digits_stays_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    kept = [word for word in WORDS if not word.startswith("--student")]
    assert call(*kept, "--student=nets:called", "--student.title=007", "--student.width=3") == 0, told(capsys)
    assert json.loads(Path("student/config.json").read_text())["config"]["settings"] == {"title": "007", "width": 3}


def test_help_tells_of_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("distill", "--teacher=nets:build", "--help") == 0
    assert "--match" in told(capsys)
