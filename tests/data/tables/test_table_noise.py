"""Noise that makes rounded columns continuous: how large it is, and what is refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from limbeck.data import Tabular
from limbeck.data.tables.noise import resolution
from tests.data.tables.written_tables import everything, numbers, text


class TestNoise:
    def test_fills_each_step_of_rounding(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers(2000))
        plain, noised = (everything(Tabular(path, noise=noise).load()) for noise in (None, "auto"))
        added = noised - plain
        for column, amplitude in enumerate((0.01, 5.0)):
            share = added[:, column] / amplitude
            assert -1e-4 < share.min() < 0.01
            assert 0.99 < share.max() < 1 + 1e-4
            assert share.mean() == pytest.approx(0.5, abs=4 * 0.29 / math.sqrt(2000))
        assert not added[:, 2].any()

    def test_amplitudes_may_be_given(self, tmp_path: Path) -> None:
        path = text(tmp_path / "t.csv", numbers())
        plain = everything(Tabular(path, noise=None).load())
        added = everything(Tabular(path, noise=[0, 0, 2.0]).load()) - plain
        assert not added[:, :2].any()
        assert 1.8 < added[:, 2].max() < 2.001
        assert (everything(Tabular(path, noise=0.5).load()) - plain).min(axis=0).tolist() == pytest.approx(
            [0.0] * 3, abs=0.02
        )

    def test_it_is_never_added_to_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "t.npz"
        np.savez(path, train=numbers(50, 1), val=numbers(20, 2), test=numbers(10, 3))
        before = path.read_bytes()
        source = Tabular(str(path))
        assert source.load().fingerprint == source.load().fingerprint
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        ("values", "step"),
        [
            (np.array([1.0, 2.0, 4.0]), 1.0),
            (np.array([3, 5, 9]), 2.0),
            (np.array([True, False, True]), 1.0),
            (np.array([0.1, 0.25, 7.0]), 0.15),
            (np.array([-300.0, 100.0, 700.0]), 200.0),
            (np.array([2.0, 2.0]), 0.0),
            (np.linspace(0, 1, 9) ** 3 * math.pi, 0.0),
            (np.tile(np.arange(256) / 255, 4), 1 / 255),
            (np.round(np.random.default_rng(0).normal(size=500), 3).astype(np.float32), 0.001),
            (np.random.default_rng(0).normal(size=500).astype(np.float32), 0.0),
            (np.random.default_rng(0).normal(size=30), 0.0),
        ],
        ids=str,
    )
    def test_steps_of_rounding_are_found(self, values: np.ndarray, step: float) -> None:
        assert resolution(values) == pytest.approx(step, rel=1e-6)

    @pytest.mark.skipif("LIMBECK_DATA" not in os.environ, reason="LIMBECK_DATA does not say where data are kept")
    @pytest.mark.parametrize("name", ["power_head", "protein_casp"])
    def test_steps_of_published_tables_are_found_again(self, name: str) -> None:
        """They were noised with known amplitudes; undone, the same ones are found, and in noised data none."""
        with np.load(Path(os.environ["LIMBECK_DATA"], "tabular", f"{name}.npz")) as file:
            amplitudes = file["noise_amplitude"]
            noised = file["train"].astype(np.float64) * file["std"] + file["mean"]
            assert all(resolution(column) == 0.0 for column in file["train"].T)
        raw = np.floor(noised / amplitudes + 1e-3) * amplitudes
        assert [resolution(column) for column in raw.T] == pytest.approx(amplitudes.tolist())
