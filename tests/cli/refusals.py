"""A command that must fail with one message, and leave everything as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import call, hashes


def refused(
    capsys: pytest.CaptureFixture[str], words: list[object], *told: str, status: tuple[int, ...] = (1, 2)
) -> str:
    """Run a command that must fail with one line on standard error, which says all that is expected."""
    before = hashes(Path())
    capsys.readouterr()
    assert call(*words) in status
    found = capsys.readouterr()
    assert found.err.count("limbeck: error:") == 1
    message = found.err.split("limbeck: error:")[1].strip()
    assert "Traceback" not in found.err
    assert "\n" not in message
    for text in told:
        assert text in message, message
    for internal in ("Namespace(", "NestedArg(", "Subtypes", "Given value", "<class 'NoneType'>"):
        assert internal not in message, message
    after = hashes(Path())
    assert {name: after.get(name) for name in before} == before
    return message
