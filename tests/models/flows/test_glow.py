"""Glow: sizes, steps, splits, dequantisation, and a student that follows a deeper teacher."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from limbeck.core.loss import Batch
from limbeck.errors import MatchError, ModelError
from limbeck.models import Flow, Glow, TableGlow
from limbeck.models.flows.glow_networks import PixelNetwork, RowNetwork
from limbeck.models.flows.glow_parts import GlowStep, LearnedSplit, Mixing, soft_clamp
from limbeck.models.flows.pixels import Pixels, Squeeze, dequantized
from tests.flows import ONE

TABLES = {"POWER": 6, "GAS": 8, "HEPMASS": 21, "MINIBOONE": 43, "BSDS300": 63}
TABLE_2 = {  # thousands of parameters: student, teacher
    "POWER": (13.8, 86.7),
    "GAS": (14.2, 87.8),
    "HEPMASS": (17.4, 96.3),
    "MINIBOONE": (24.9, 114.2),
    "BSDS300": (34.4, 134.7),
}


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("table", TABLES)
def test_sizes_are_those_of_table_2(table: str) -> None:
    columns = TABLES[table]
    sizes = [TableGlow(columns, depth=3, hidden=32), TableGlow(columns, depth=5, hidden=64)]
    assert tuple(round(parameters(model) / 1000, 1) for model in sizes) == TABLE_2[table]


def test_sizes_are_those_of_table_5() -> None:
    assert parameters(Glow(32, 3, levels=3, depth=8, hidden=512)) / 1e6 == pytest.approx(11.0, abs=0.05)


def test_a_mixing_is_what_it_was_told_to_be() -> None:
    torch.manual_seed(0)
    for size in (1, 2, 5, 12):
        matrix = torch.randn(size, size, dtype=torch.float64)
        mixing = Mixing(size).double()
        mixing.become(matrix)
        torch.testing.assert_close(mixing.matrix(), matrix)
        torch.testing.assert_close(mixing.inverse_matrix(), torch.linalg.inv(matrix))
        torch.testing.assert_close(mixing.log_scale.sum(), torch.linalg.slogdet(matrix).logabsdet)


def test_a_mixing_starts_as_a_rotation_and_knows_its_determinant_after_training() -> None:
    mixing = Mixing(6).double()
    torch.testing.assert_close(
        mixing.matrix() @ mixing.matrix().T, torch.eye(6, dtype=torch.float64), atol=1e-6, rtol=0
    )
    with torch.no_grad():
        mixing.factors.add_(0.3 * torch.randn(6, 6, dtype=torch.float64))
    torch.testing.assert_close(mixing.log_scale.sum(), torch.linalg.slogdet(mixing.matrix()).logabsdet)
    assert parameters(mixing) == 36


@pytest.mark.parametrize("shape", [(5,), (4, 3, 3)])
def test_adapting_normalises_each_channel(shape: tuple[int, ...]) -> None:
    size = shape[0]
    step = GlowStep(size, RowNetwork(2, 6, 4, 1), 3.0) if len(shape) == 1 else GlowStep(4, PixelNetwork(2, 4, 4), 3.0)
    step.double()
    step.mixing.become(torch.eye(size, dtype=torch.float64))
    scale = torch.arange(1.0, size + 1.0, dtype=torch.float64).view(size, *[1] * (len(shape) - 1))
    h = 4.0 + scale * torch.randn(200, *shape, dtype=torch.float64)
    step.adapt(h)
    normalised, change = step(h)
    rows = normalised.transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(size, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(rows.std(1, correction=0), torch.ones(size, dtype=torch.float64))
    deviation = h.transpose(0, 1).flatten(1).std(1, correction=0)
    expected = -deviation.log().sum() * math.prod(shape[1:])
    torch.testing.assert_close(change, expected.expand(200), atol=1e-8, rtol=1e-8)


def test_adapting_spares_constant_channels() -> None:
    h = torch.full((64, 3), 0.1) + torch.tensor([0.0, 1.0, 2.0]) * torch.randn(64, 3)
    step = GlowStep(3, RowNetwork(1, 4, 4, 1), 3.0)
    step.adapt(h)
    assert step.log_scale[0] == 0.0
    assert (step.log_scale[1:] != 0.0).all()


def test_scales_of_a_step_are_bounded() -> None:
    raw = torch.linspace(-1e4, 1e4, 101)
    assert soft_clamp(raw, 3.0).abs().max() <= 3.0
    step = GlowStep(4, RowNetwork(2, 4, 4, 1), 0.5)
    with torch.no_grad():
        for parameter in step.network.parameters():
            parameter.fill_(100.0)
    h = torch.randn(6, 4)
    _, change = step(h)
    assert (change - step.mixing.log_scale.sum()).abs().max() <= 2 * 0.5 + 1e-6


def test_an_additive_step_keeps_volumes() -> None:
    flow = ONE["additive"].flow()
    y = torch.randn(7, 5, dtype=torch.float64)
    _, change = flow.levels[0].steps[0](y)
    assert change.shape == ()


def test_a_split_is_a_gaussian_given_what_goes_on() -> None:
    split = LearnedSplit(6, 3.0).double()
    with torch.no_grad():
        for parameter in split.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    h = torch.randn(5, 6, 4, 4, dtype=torch.float64)
    kept, u, change = split(h)
    assert torch.equal(kept, h[:, :3])
    torch.testing.assert_close(split.inverse(kept, u), h)
    mean, raw = split.prior(kept).chunk(2, 1)
    law = Normal(mean, soft_clamp(raw, 3.0).exp())
    through_u = Normal(0.0, 1.0).log_prob(u).flatten(1).sum(1) + change
    torch.testing.assert_close(through_u, law.log_prob(h[:, 3:]).flatten(1).sum(1))


def test_squeezing_puts_neighbours_into_channels() -> None:
    h = torch.arange(16.0).view(1, 1, 4, 4)
    squeezed, change = Squeeze()(h)
    assert squeezed.shape == (1, 4, 2, 2)
    assert squeezed[0, :, 0, 0].tolist() == [0.0, 1.0, 4.0, 5.0]
    assert change == 0.0
    assert torch.equal(Squeeze().inverse(squeezed), h)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantised_values_stay_in_their_cells(levels: int) -> None:
    k = torch.arange(levels).repeat(50)
    y = k / (levels - 1)
    before = y.clone()
    noisy = dequantized(y, levels, torch.Generator().manual_seed(0))
    assert torch.equal(y, before)
    assert torch.equal((noisy * levels).floor().long().clamp(max=levels - 1), k)
    assert noisy.min() >= 0.0
    assert noisy.max() <= 1.0
    inside = noisy * levels - k
    assert inside.mean().item() == pytest.approx(0.5, abs=0.06)


def test_continuous_values_get_no_noise() -> None:
    y = torch.rand(3, 1, 4, 4)
    assert Glow(4, 1, 1, 1, 2, quantization=None).observed(y) is y
    assert not torch.equal(Glow(4, 1, 1, 1, 2, quantization=256).observed(y), y)


def test_bits_per_dim_of_a_uniform_code_is_what_counting_says() -> None:
    """A density of 1 on [0, 1] gives each of n values 1/n: log2 n bits; one of 2 on half of it, one bit less."""

    class Uniform(Glow):
        def log_prob(self, y: Tensor, x: Tensor | None = None) -> Tensor:
            return y.new_full((len(y),), self.elements * math.log(2.0)) if self.half else y.new_zeros(len(y))

    model = Uniform(4, 1, 1, 1, 2, quantization=16)
    y = torch.randint(16, (5, 1, 4, 4)) / 15.0
    model.half = False
    torch.testing.assert_close(model.bits_per_dim(y), torch.full((5,), 4.0))
    model.half = True
    torch.testing.assert_close(model.bits_per_dim(y), torch.full((5,), 3.0))


def test_bits_per_dim_follows_from_log_prob() -> None:
    model = Glow(4, 2, 2, 2, 4, quantization=17)
    y = torch.randint(17, (5, 2, 4, 4)) / 16.0
    bits = model.bits_per_dim(y, torch.Generator().manual_seed(3))
    nats = model.log_prob(model.observed(y, torch.Generator().manual_seed(3)))
    torch.testing.assert_close(bits, -nats / 32 / math.log(2.0) + math.log2(17))


def test_logit_pixels_integrate_to_one() -> None:
    """One pixel: its density between the values that the logit takes to the ends of the line."""
    alpha = 0.05
    entry = Pixels(alpha)
    low, high = -alpha / (1 - 2 * alpha), (1 - alpha) / (1 - 2 * alpha)
    y = torch.linspace(low, high, 20002, dtype=torch.float64)[1:-1].view(-1, 1, 1, 1)
    z, change = entry(y)
    density = (Normal(0.0, 1.0).log_prob(z).flatten() + change).exp()
    assert (density.sum() * (y[1] - y[0])).item() == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(entry.inverse(z), y)


@pytest.mark.parametrize(("deep", "shallow"), [(5, 3), (4, 4), (6, 1), (7, 2)])
def test_a_shallower_student_starts_with_the_teachers_coordinates(deep: int, shallow: int) -> None:
    torch.manual_seed(deep)
    pairs = [
        (TableGlow(7, deep, 8), TableGlow(7, shallow, 4), torch.randn(16, 7)),
        (Glow(8, 2, 2, deep, 4), Glow(8, 2, 2, shallow, 2), torch.rand(6, 2, 8, 8)),
    ]
    for teacher, student, y in pairs:
        apart = max((a - b).abs().max().item() for a, b in zip(teacher.encode(y), student.encode(y)))
        student.align_with(teacher)
        for ours, theirs in zip(student.encode(y), teacher.encode(y)):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert apart > 0.1
        torch.testing.assert_close(student.log_prob(y), teacher.log_prob(y), atol=1e-3, rtol=1e-5)


def test_steps_along_the_way_agree_too() -> None:
    teacher, student = TableGlow(6, 6, 8).double(), TableGlow(6, 3, 4).double()
    student.align_with(teacher)
    y = torch.randn(9, 6, dtype=torch.float64)
    own, theirs = student.trace_inference(y), teacher.trace_inference(y)
    for step in (1, 2):
        torch.testing.assert_close(own[f"h[0][{step}]"].value, theirs[f"h[0][{2 * step}]"].value)


def trained(build: Callable[[], Flow], y: Tensor) -> Flow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = build()
        flow.adapt(Batch(y))
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += 0.03 * torch.randn_like(parameter)
    return flow.eval()


HALVES = {
    "table": (lambda: TableGlow(8, depth=4), (8,)),
    "images": (lambda: Glow(32, 3, 3, 2, 16, quantization=None), (3, 32, 32)),
}


@pytest.mark.parametrize("name", HALVES)
def test_likelihoods_in_half_precision(name: str) -> None:
    """Sums over thousands of pixels, which bfloat16 would round to multiples of 16."""
    build, shape = HALVES[name]
    y = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1))
    flow = trained(build, y)
    expected = flow.log_prob(y)
    with torch.autocast("cpu", torch.bfloat16):
        found = flow.log_prob(y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0.1)
    halved = flow.to(torch.bfloat16)
    found = halved.log_prob(y.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.2)
    assert halved.sample(2)["y"].dtype == torch.bfloat16
    again = halved.decode(halved.encode(y.bfloat16()))
    torch.testing.assert_close(again.float(), y, atol=0.1, rtol=0.0)


def test_following_trained_mixings() -> None:
    """What is taken over is the product of matrices that are no longer rotations."""
    teacher, student = ONE["table glow"].flow(depth=4), TableGlow(5, 2, 4).double()
    student.align_with(teacher)
    mixings = [step.mixing.matrix() for step in teacher.levels[0].steps]
    for index, step in enumerate(student.levels[0].steps):
        torch.testing.assert_close(step.mixing.matrix(), mixings[2 * index + 1] @ mixings[2 * index])


def test_what_cannot_be_followed_is_refused() -> None:
    with pytest.raises(MatchError, match="give the student at most 2"):
        TableGlow(4, depth=3).align_with(TableGlow(4, depth=2))
    with pytest.raises(MatchError, match="the same levels and splits"):
        Glow(8, 1, 1, 2, 2).align_with(Glow(8, 1, 2, 2, 2))
    with pytest.raises(MatchError, match="2 levels and the student 1"):
        Glow(8, 1, 1, 2, 2).inherit(Glow(8, 1, 2, 2, 2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TableGlow(1), "features must be at least 2, not 1"),
        (lambda: TableGlow(4, depth=0), "depth must be positive"),
        (lambda: TableGlow(4, coupling="spline"), "coupling must be affine or additive"),
        (lambda: Glow(12, levels=3), "12x12 pixels cannot be halved 3 times"),
        (lambda: Glow([8, 6], levels=2), "8x6 pixels"),
        (lambda: Glow([]), r"image_size is one number, or height and width, not \[\]"),
        (lambda: Glow(8, quantization=1), "quantization"),
        (lambda: Glow(8, alpha=0.5), "alpha"),
        (lambda: Glow(8, activation="silu"), "a class of torch.nn such as 'ELU', not 'silu'"),
        (lambda: TableGlow(4, activation="Swish"), "a class of torch.nn such as 'ELU', not 'Swish'"),
        (lambda: Glow(8, bound=0.0), "bound must be positive"),
    ],
)
def test_bad_sizes_are_refused(build, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build()
