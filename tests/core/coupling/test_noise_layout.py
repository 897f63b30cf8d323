"""Flat rows of noise: what goes in comes out, in its law; arrangements are one-to-one and keep places."""

from __future__ import annotations

import pytest
import torch

from limbeck.core.coupling.noise_layout import NoiseLayout, arranged
from limbeck.core.reparam import Law
from limbeck.errors import ReparameterizationError
from limbeck.models import LadderVAE
from tests.zoo import BY_NAME, inputs


def layout(**shapes: tuple[int, ...]) -> NoiseLayout:
    return NoiseLayout(dict(shapes), dict.fromkeys(shapes, Law.NORMAL))


def test_reading_a_layout_changes_nothing() -> None:
    torch.manual_seed(0)
    teacher, student = BY_NAME["classifier"].pair()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    state = torch.get_rng_state()
    found = NoiseLayout.of(student, inputs(7))
    assert found == NoiseLayout({"z": (3,)}, {"z": Law.NORMAL}) == NoiseLayout.of(teacher, inputs(7))
    assert torch.equal(state, torch.get_rng_state())
    assert student.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_order_and_laws_are_those_of_the_program() -> None:
    found = NoiseLayout.of(BY_NAME["mixed"].pair()[0])
    assert list(found.shapes.items()) == [("z2", (3,)), ("z1", (2,))]
    assert found.laws == {"z2": Law.REVERSED, "z1": Law.NORMAL}
    assert found.size == 5
    assert found.where(["z1"]).tolist() == [3, 4]
    assert found.where([]).tolist() == []


@pytest.mark.parametrize("law", [Law.NORMAL, Law.UNIFORM, Law.REVERSED, Law.GUMBEL])
def test_round_trip(law: Law) -> None:
    shapes = {"a": (2, 3), "none": (0,), "b": (4,), "number": ()}
    row = NoiseLayout(shapes, {"a": law, "none": Law.NONE, "b": Law.NORMAL, "number": law})
    flat = torch.randn(5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = row.unflatten(flat)
    assert {name: tuple(value.shape) for name, value in noise.items()} == {n: (5, *s) for n, s in shapes.items()}
    assert torch.equal(noise["b"], flat[:, 6:10])
    torch.testing.assert_close(row.flatten(noise), flat, rtol=1e-10, atol=1e-10)


def test_a_law_that_cannot_be_mapped_names_its_site() -> None:
    row = NoiseLayout({"strange": (2,)}, {"strange": Law.CUSTOM})
    with pytest.raises(ReparameterizationError, match=r"site 'strange'.*CUSTOM"):
        row.flatten({"strange": torch.zeros(1, 2)})


# ------------------------------------------------------------------------------------------------------- arrangements


@pytest.mark.parametrize("how", ["arrange", "position"])
@pytest.mark.parametrize("student", [layout(z2=(5, 2, 2), z1=(5, 6, 6)), layout(z1=(3, 6, 6)), layout(v=(300,))])
def test_arrangements_are_one_to_one_and_as_large_as_can_be(how: str, student: NoiseLayout) -> None:
    teacher = layout(z4=(4, 1, 1), z3=(4, 2, 2), z2=(4, 3, 3), z1=(4, 6, 6))
    free = torch.arange(student.size)
    sources, places = arranged(teacher, student, free, how)
    assert len(sources) == len(places) == min(teacher.size, student.size)
    assert len(set(sources.tolist())) == len(sources)
    assert set(sources.tolist()) <= set(range(teacher.size))
    assert places.tolist() == sorted(set(places.tolist()))
    assert set(places.tolist()) <= set(free.tolist())


@pytest.mark.parametrize("how", ["arrange", "position"])
def test_too_few_places_lose_the_last_numbers_of_the_program(how: str) -> None:
    teacher = layout(z3=(4, 2, 2), z2=(4, 3, 3), z1=(4, 6, 6))
    sources, _ = arranged(teacher, layout(z2=(2, 3, 3), z1=(2, 6, 6)), torch.arange(90), how)
    assert sorted(sources.tolist()) == list(range(90))


def test_the_order_of_programs() -> None:
    sources, places = arranged(layout(b=(2,), a=(3,)), layout(c=(4,)), torch.tensor([0, 2, 3]), "arrange")
    assert sources.tolist() == [0, 1, 2]
    assert places.tolist() == [0, 2, 3]


def test_equal_grids_meet_channel_by_channel_and_the_rest_stays_near() -> None:
    teacher = NoiseLayout.of(LadderVAE(12, 1, levels=4, width=2, latent_channels=4))
    student = NoiseLayout.of(LadderVAE(12, 1, levels=2, width=2, latent_channels=5, top_halvings=2))
    assert teacher.size == student.size == 200
    sources, places = arranged(teacher, student, torch.arange(200), "position")
    source_of = dict(zip(places.tolist(), sources.tolist(), strict=True))
    finest = zip(student.where(["z1"]).tolist(), teacher.where(["z1"]).tolist(), strict=False)
    assert all(source_of[place] == source for place, source in finest)  # channels 0 to 3 of 5
    # The student's fifth fine channel takes the teacher's 3x3 latents: each number within its own cell.
    spare = student.where(["z1"])[4 * 36 :].reshape(6, 6).tolist()
    middle = teacher.where(["z2"]).reshape(4, 3, 3)
    for row in range(6):
        for column in range(6):
            _, up, left = (middle == source_of[spare[row][column]]).nonzero()[0].tolist()
            assert (up, left) == (row // 2, column // 2)
    # And the same channel has the same corner in every cell, so that a convolution can tell them.
    corners = {(row % 2, column % 2, (middle == source_of[spare[row][column]]).nonzero()[0][0].item())
               for row in range(6) for column in range(6)}  # fmt: skip
    assert len(corners) == 4


def test_position_beats_the_order_of_programs_in_distance() -> None:
    """What the arrangement is for: less wandering about the picture in all."""
    teacher, student = layout(z2=(4, 3, 3), z1=(4, 6, 6)), layout(z1=(5, 6, 6))

    def wander(how: str) -> float:
        sources, places = arranged(teacher, student, torch.arange(student.size), how)
        where = {}
        for start, side in ((0, 3), (36, 6)):
            for n in range(4 * side * side):
                where[start + n] = ((n // side % side + 0.5) / side, (n % side + 0.5) / side)
        total = 0.0
        for source, place in zip(sources.tolist(), places.tolist(), strict=True):
            row, column = (place // 6 % 6 + 0.5) / 6, (place % 6 + 0.5) / 6
            total += abs(where[source][0] - row) + abs(where[source][1] - column)
        return total

    # Equal grids stay; a number of the coarse grid moves from its cell's centre to a corner, 1 / 12 on each axis.
    assert wander("position") == pytest.approx(36 * 2 / 12)
    assert wander("arrange") > 3 * wander("position")
