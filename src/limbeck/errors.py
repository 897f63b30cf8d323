"""Errors a user can act on: each message names the thing that is wrong and how to mend it.

Every room may raise these; the command line prints their message without a traceback.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CompilationError",
    "DataError",
    "DivergenceError",
    "LimbeckError",
    "MatchError",
    "ModelError",
    "NonFiniteLossError",
    "RecipeError",
    "ReparameterizationError",
    "SiteError",
    "StorageError",
    "lacks_memory",
]


class LimbeckError(Exception):
    """Base of every error that is the input's fault rather than the library's."""


class SiteError(LimbeckError):
    """A generative program declares a site wrongly: a name twice, a wrong shape, a missing noise."""


class ReparameterizationError(LimbeckError):
    """A distribution cannot be written as ``push(distribution, noise)`` with parameter-free noise."""


class DivergenceError(LimbeckError):
    """A divergence is not defined between two given distributions."""


class MatchError(LimbeckError):
    """A match names sites that the teacher or the student does not have, or that cannot be compared."""


class NonFiniteLossError(LimbeckError):
    """A loss became NaN or infinite; the message names the step, the site and its statistics."""


class DataError(LimbeckError):
    """A data set is missing, empty, malformed, or holds values that no model can be trained on."""


class ModelError(LimbeckError):
    """A model directory is missing, corrupt, or holds another model than the one asked for."""


class CheckpointError(LimbeckError):
    """No usable checkpoint is left to continue from."""


class CompilationError(LimbeckError):
    """A training step that was to be compiled cannot be, e.g. because the machine has no compiler."""


class StorageError(LimbeckError):
    """A file or directory could not be written (full disk, missing permission)."""


class RecipeError(LimbeckError):
    """A recipe or a command-line override is not valid."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had; torch has a class for that of a GPU only."""
    import torch

    texts = ("can't allocate memory", "not enough memory", "Storage size calculation overflow")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)
