"""Feature networks: shapes, training, files, extraction."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.data import Digits
from limbeck.errors import DataError, ModelError, StorageError
from limbeck.metrics import ClassifierFeatures, FeatureExtractor, TorchScriptFeatures, extract, frechet_distance


def network(size: int = 8, channels: int = 1, width: int = 8) -> ClassifierFeatures:
    torch.manual_seed(0)
    return ClassifierFeatures(channels, size, 10, "test-cnn", width=width)


@pytest.mark.parametrize("size", [8, 12, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_gradients(size: int, channels: int) -> None:
    model = network(size, channels, width=4)
    images = torch.rand(3, channels, size, size)
    assert model(images).shape == (3, 64)
    assert model.logits(images).shape == (3, 10)
    model.loss(images, torch.tensor([0, 1, 2])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_widths_double_up_to_four_times() -> None:
    widths = [m.out_channels for m in network(64, 3, width=4).modules() if isinstance(m, nn.Conv2d)]
    assert widths == [4, 4, 8, 8, 16, 16, 16, 16]


def test_features_are_what_the_last_layer_reads() -> None:
    model = network().eval()
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(model.head(model(images)), model.logits(images))


def test_wrong_image_shape_is_explained() -> None:
    with pytest.raises(DataError, match=r"test-cnn reads images of shape \(1, 8, 8\), not \(3, 8, 8\)"):
        network()(torch.rand(2, 3, 8, 8))


def test_learns_the_digits_and_its_features_tell_them_apart() -> None:
    data = Digits().load()
    model = network(width=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(120):
        rows = torch.randint(len(data.train), (64,), generator=torch.Generator().manual_seed(step))
        batch = data.train.take(rows)
        optimizer.zero_grad()
        model.loss(batch.images, batch.labels).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        accuracy = (model.logits(data.test.images).argmax(1) == data.test.labels).float().mean()
    assert accuracy > 0.95
    real, test = extract(model, data.train.images), extract(model, data.test.images)
    blurred = nn.functional.avg_pool2d(data.test.images, 3, stride=1, padding=1)
    assert frechet_distance(real, test) * 5 < frechet_distance(real, extract(model, blurred))


def test_save_and_load_give_the_same_features(tmp_path: Path) -> None:
    model = network(12, 3)
    model(torch.rand(20, 3, 12, 12))  # moves the running statistics of the batch norms
    model.save(tmp_path / "deep" / "cnn.safetensors")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["cnn.safetensors"]
    again = ClassifierFeatures.load(tmp_path / "deep" / "cnn.safetensors")
    assert (again.name, again.num_features, again.config) == ("test-cnn", 64, model.config)
    assert not again.training
    images = torch.rand(4, 3, 12, 12)
    assert torch.equal(again(images), model.eval()(images))
    assert torch.equal(again.logits(images), model.logits(images))


def test_save_replaces_and_reports_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cnn.safetensors"
    network().save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"Cannot write .*cnn\.safetensors: No space left"):
        network(12).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_unusable_files(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    network().save(good)
    content = good.read_bytes()
    cases = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "noise": b"\xff" * 1000,
        "other-config": content.replace(b'\\"size\\": 8', b'\\"size\\": 9'),
        "unknown-option": content.replace(b'\\"width\\"', b'\\"depth\\"'),
    }
    for name, broken in cases.items():
        assert broken != content
        (tmp_path / name).write_bytes(broken)
    save_file({"weight": torch.zeros(2)}, tmp_path / "other-network")
    for name in [*cases, "other-network", "missing"]:
        if name == "other-config":
            continue  # 9 pixels also end at 4: the weights fit, so this is a valid file
        with pytest.raises(ModelError, match=rf"{name} is not a saved ClassifierFeatures"):
            ClassifierFeatures.load(tmp_path / name)


class Brightness(FeatureExtractor):
    """Mean of each channel, doubled in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.num_features = "brightness", 1
        self.frozen = nn.Dropout().eval()
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        assert not torch.is_grad_enabled()
        return images.mean(dim=(2, 3)) * (2 if self.training or self.frozen.training else 1)


def test_extract_batches_and_puts_flags_back() -> None:
    extractor = Brightness()
    extractor.train()
    extractor.frozen.eval()
    images = torch.rand(7, 1, 4, 4)
    features = extract(extractor, images, batch_size=3)
    assert torch.allclose(features, images.mean(dim=(2, 3)))
    assert extractor.sizes == [3, 3, 1]
    assert extractor.training
    assert not extractor.frozen.training


def test_extract_does_not_depend_on_batches_or_dtype() -> None:
    model = network()
    images = torch.randint(256, (30, 1, 8, 8), dtype=torch.uint8)
    whole = extract(model, images.float() / 255)
    assert torch.allclose(extract(model, images, batch_size=7), whole, atol=1e-6)
    assert torch.allclose(extract(model, images.double() / 255), whole, atol=1e-6)


@pytest.mark.parametrize("bad", [-0.01, 1.01, float("nan"), float("inf")])
def test_extract_wants_clamped_images(bad: float) -> None:
    images = torch.full((2, 1, 8, 8), 0.5)
    images[1, 0, 3, 3] = bad
    with pytest.raises(DataError, match="Clamp samples"):
        extract(network(), images)


def test_extract_wants_images() -> None:
    for images in (torch.zeros(0, 1, 8, 8), torch.zeros(2, 64)):
        with pytest.raises(DataError, match="expected images of shape"):
            extract(network(), images)


class Pooled(nn.Module):
    """A scriptable stand-in for a published network."""

    def forward(self, x: Tensor, double: bool = False) -> Tensor:
        flat = x.mean(dim=[2, 3])
        return torch.cat([flat, flat], dim=1) if double else flat


class Whole(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Picky(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def scripted(module: nn.Module, path: Path) -> str:
    torch.jit.script(module).save(str(path))
    return str(path)


@pytest.mark.filterwarnings("ignore")
def test_torchscript(tmp_path: Path) -> None:
    path = scripted(Pooled(), tmp_path / "my-inception.pt")
    extractor = TorchScriptFeatures(path, size=16, black=-1, white=1)
    assert (extractor.name, extractor.num_features) == ("my-inception", 3)
    features = extract(extractor, torch.full((4, 1, 8, 8), 0.75))
    assert torch.allclose(features, torch.full((4, 3), 0.5))
    assert TorchScriptFeatures(path, size=16, arguments={"double": True}).num_features == 6
    sized = TorchScriptFeatures(scripted(Picky(), tmp_path / "picky.pt"), size=16)
    assert sized.num_features == 5
    assert extract(sized, torch.rand(2, 3, 40, 40)).shape == (2, 5)


@pytest.mark.filterwarnings("ignore")
def test_unusable_torchscript(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        TorchScriptFeatures(str(tmp_path / "missing.pt"))
    (tmp_path / "noise.pt").write_bytes(b"noise" * 100)
    torch.save(nn.Linear(2, 2), tmp_path / "pickle.pt")
    for name in ("noise.pt", "pickle.pt"):
        with pytest.raises(ModelError, match=f"{name} is not a TorchScript file"):
            TorchScriptFeatures(str(tmp_path / name))
    with pytest.raises(ModelError, match=r"maps 2 images to shape \(2, 3, 8, 8\)"):
        TorchScriptFeatures(scripted(Whole(), tmp_path / "whole.pt"), size=8)
    with pytest.raises(ModelError, match=r"fails on two images of shape \(3, 8, 8\); set size"):
        TorchScriptFeatures(scripted(Picky(), tmp_path / "picky.pt"), size=8)
