"""A prepared teacher has fewer norms and the same numbers."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

from limbeck.core import methods
from limbeck.core.reconstruction import reconstruct
from limbeck.core.sites import Sites
from limbeck.engine.teachers.prepare import prepare
from limbeck.errors import ModelError
from limbeck.models import VRNN, LadderVAE
from tests.engine.teachers.foldable_models import (
    Block,
    Branching,
    Dense,
    NeedsInput,
    Optional,
    Picture,
    Plain,
    Reads,
    Transposed,
    Twice,
    assert_same,
    compare,
    digest,
    norms,
    with_statistics,
)


@pytest.mark.parametrize(
    ("size", "channels", "levels"),
    [(8, 1, 3), (8, 3, 2), (13, 3, 3), (28, 1, 4)],
    ids=["grey", "colour", "odd", "mnist"],
)
def test_ladder_vae_is_folded_and_the_same(size: int, channels: int, levels: int) -> None:
    teacher = with_statistics(LadderVAE(size, channels, levels, width=12, latent_channels=4)).train()
    before = digest(teacher)
    prepared = prepare(teacher)
    assert norms(prepared) == 0 < norms(teacher)
    assert digest(teacher) == before
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    compare(teacher, prepared)
    y = torch.rand(3, channels, size, size)
    plain = copy.deepcopy(teacher).eval()
    trace = plain.trace_inference(y)
    assert_same(trace, prepared.trace_inference(y, noise=trace.noise))


def test_ladder_vae_in_float64_agrees_to_rounding() -> None:
    teacher = with_statistics(LadderVAE(8, 1, 2, width=8)).double()
    prepared = prepare(teacher)
    assert next(prepared.parameters()).dtype is torch.float64
    compare(teacher, prepared, relative=1e-13)


def test_the_result_is_a_frozen_model_of_the_same_class() -> None:
    teacher = with_statistics(LadderVAE(8, 1, 2, width=8))
    prepared = prepare(teacher)
    assert isinstance(prepared, LadderVAE)
    assert prepared.config == teacher.config
    assert not prepared.training
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    assert prepared.sample(3)["y"].shape == (3, 1, 8, 8)
    assert list(prepared.trace(2)) == ["z2", "z1", "y"]
    assert reconstruct(prepared, torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    again = prepare(prepared)
    compare(prepared, again, relative=1e-6)


def test_a_loss_is_the_same_with_a_prepared_teacher() -> None:
    teacher, student = with_statistics(LadderVAE(8, 1, 2, width=8)), LadderVAE(8, 1, 2, width=4)
    objective = methods.surrogate(1e-3)
    totals = [
        objective(model, student, batch_size=4, generator=torch.Generator().manual_seed(1)).total.detach()
        for model in (teacher.eval(), prepare(teacher))
    ]
    assert float((totals[0] - totals[1]).abs()) <= 1e-5 * float(totals[0])


def test_random_state_is_left_alone() -> None:
    teacher = LadderVAE(8, 1, 2, width=8)
    before = torch.get_rng_state()
    prepare(teacher)
    assert torch.equal(torch.get_rng_state(), before)


def test_linear_layers_are_folded_where_features_meet() -> None:
    teacher = with_statistics(Dense())
    prepared = prepare(teacher)
    assert norms(prepared) == 0
    compare(teacher, prepared)


def test_linear_layers_of_a_model_with_input_are_folded_only_if_an_input_shows_their_shape() -> None:
    teacher, x = with_statistics(NeedsInput()), torch.randn(4, 3)
    for prepared, left in ((prepare(teacher), 1), (prepare(teacher, x), 0)):
        assert norms(prepared) == left
        compare(teacher, prepared, x)


def test_a_norm_over_another_dimension_is_not_folded() -> None:
    teacher = with_statistics(Transposed())
    with pytest.warns(UserWarning, match="left alone"):
        prepared = prepare(teacher)
    assert norms(prepared) == 1
    compare(teacher, prepared)


def test_a_model_without_norms_stays_as_it_is() -> None:
    teacher = Plain()
    prepared = prepare(teacher)
    assert digest(prepared) == digest(teacher)
    compare(teacher, prepared, relative=0.0)


@pytest.mark.parametrize(
    ("block", "left"),
    [
        (Block(2), 0),
        (Branching(), 0),
        (Block(2, affine=False), 0),
        (Block(2, track_running_stats=False), 1),
        (Reads(2), 1),
        (Optional(2), 1),
        (Twice(2), 1),
        (nn.utils.parametrizations.weight_norm(Block(2).convolution), 0),
        (nn.Sequential(nn.ConvTranspose2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), 0),
        (nn.Sequential(nn.ConvTranspose2d(2, 2, 3, padding=1, groups=2), nn.BatchNorm2d(2)), 1),
        (nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)), 1),
    ],
    ids=["block", "branching", "no affine", "no statistics", "read twice", "optional", "called twice", "parametrised",
         "transposed", "grouped", "norm first"],
)  # fmt: skip
def test_what_is_folded_and_what_is_not(block: nn.Module, left: int) -> None:
    teacher = with_statistics(Picture(block))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        prepared = prepare(teacher)
    assert norms(prepared) == left
    compare(teacher, prepared)


def test_a_shared_block_is_left_alone() -> None:
    block = Block(2)
    teacher = with_statistics(Picture(nn.Sequential(block, block)))
    prepared = prepare(teacher)
    assert norms(prepared) == 1
    compare(teacher, prepared)


def test_a_convolution_that_is_used_elsewhere_is_found_out_by_the_run() -> None:
    teacher = with_statistics(Picture(Block(2), raw=True))
    with pytest.warns(UserWarning, match="without the norm"):
        prepared = prepare(teacher)
    assert norms(prepared) == 1
    compare(teacher, prepared)


def test_a_model_that_views_images_keeps_their_layout() -> None:
    teacher = with_statistics(Picture(Block(2), view=True))
    prepared = prepare(teacher)
    assert norms(prepared) == 0
    compare(teacher, prepared)


def test_hooks_keep_their_layer_from_being_folded() -> None:
    teacher = with_statistics(Picture(Block(2)))
    teacher.block.convolution.register_forward_hook(lambda module, inputs, output: 2.0 * output)
    prepared = prepare(teacher)
    assert norms(prepared) == 1
    compare(teacher, prepared)


def test_a_model_without_its_norms_is_not_saved(tmp_path: Path) -> None:
    """The file could not be loaded again."""
    teacher = with_statistics(LadderVAE(8, 1, 2, width=8))
    for prepared in (prepare(teacher), prepare(prepare(teacher)), copy.deepcopy(prepare(teacher))):
        with pytest.raises(ModelError, match=r"limbeck\.prepare.*save the model that it was made from"):
            prepared.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    teacher.save_pretrained(tmp_path)
    prepare(VRNN(steps=2, width=3, features=2, latent_size=2)).save_pretrained(tmp_path)  # nothing to fold


def test_deep_copies_keep_the_config() -> None:
    model = LadderVAE(13, 3, levels=2, width=5)
    assert copy.deepcopy(model).config == model.config


class Bits(Dense):
    """Targets whose probabilities torch computes from the logits when they are drawn, and not when they are given."""

    def generate(self, sites: Sites, x: Tensor | None = None) -> None:
        z = sites.latent("z", Bernoulli(logits=sites.zeros(3)))
        sites.target("y", Bernoulli(logits=self.net(z)))


def test_laws_that_compute_their_parameters_late_are_compared_by_what_both_have() -> None:
    model = with_statistics(Bits()).eval()
    prepared = prepare(model)
    trace = model.trace(5)
    again = prepared.trace(noise=trace.noise)
    torch.testing.assert_close(again["y"].distribution.logits, trace["y"].distribution.logits)
