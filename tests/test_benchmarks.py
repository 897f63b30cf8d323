from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem != "timing")


def test_there_are_scripts() -> None:
    assert {"features", "flows", "step"} <= set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_each_benchmark_runs(script: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--quick", "--threads=1", f"--json={rows}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(rows.read_text())["rows"]
    assert found
    assert all(math.isfinite(row["ratio"]) and row["ratio"] > 0 for row in found)
