"""Entry point of the ``limbeck`` command. Commands are imported when they are called: help must come at once."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": "run a recipe: fit the teacher, distil it, train the baselines, evaluate, report",
    "sweep": "run a recipe at every point of a grid of settings, in parallel",
    "recipes": "list the recipes, with size and expected time",
    "distill": "distil a teacher that already exists",
    "sample": "draw samples from a saved model",
    "evaluate": "measure a saved model",
    "export": "write a saved model as a program that runs without limbeck",
    "report": "write or compare the report pages of runs",
}


_PIPE_CLOSED = 141  # what a shell reports of a program that SIGPIPE ended
_LESS_MEMORY = (
    "give smaller numbers where sizes are given, such as batch_size, width or image_size; finished work is kept"
)
_PATHS = ("--teacher", "--data", "--out", "--output", "--cache", "--config")
_SHOWN = 200  # characters of torch's message
_STOPPED = "stopped. Run the same command again to continue from the last checkpoint."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after ``limbeck``; by default those of the process.

    Returns:
        The exit status: 0, 1 for an error in the input, 2 for a wrong command line, 130 when interrupted, 141
        when nobody reads the output any more, 143 when asked to end.
    """
    words = [_at_home(word) for word in (sys.argv[1:] if argv is None else argv)]
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if words[0] == "--version":
        from limbeck import __version__

        sys.stdout.write(f"limbeck {__version__}\n")
        return 0
    command, *rest = words
    if command not in COMMANDS:
        return _fail(f"there is no command {command!r}{_near(command, COMMANDS)}; see limbeck --help", 2)
    # A recipe may name classes of a module in the working directory; last, so that nothing there hides a library.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return _guarded(command, rest)


def _at_home(word: str) -> str:
    """``--out=~/student`` as the shell would read ``--out ~/student``: elsewhere in a word it leaves the tilde."""
    name, equals, value = word.partition("=")
    return f"{name}={os.path.expanduser(value)}" if equals and name[:2] == "--" and value[:2] == "~/" else word


def _guarded(command: str, words: list[str]) -> int:
    from limbeck.cli.words import option
    from limbeck.errors import LimbeckError, RecipeError, lacks_memory

    try:
        blank = next((name for name in _PATHS if option(words, name) == ""), None)
        if blank is not None:  # "" is a path, of the working directory: that of a shell's variable that is not set
            raise RecipeError(f"{blank} is empty; give a path, or leave it out")
        if any(".help" in word for word in words):
            from limbeck.cli.known_classes import print_class_help

            if print_class_help(words):
                return 0
        importlib.import_module(f"limbeck.cli.{command}").run(words)
    except RecipeError as error:
        return _fail(str(error), 2)
    except LimbeckError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail(_STOPPED, 130)
    except SystemExit as error:
        if error.code == 143:  # training was asked to end (SIGTERM)
            return _fail(_STOPPED, 143)
        raise
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough. Python flushes once more at the end: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        told = str(error).partition("\n")[0][:_SHOWN].strip()
        return _fail(f"there is not enough memory{told and f' ({told})'}; {_LESS_MEMORY}", 1)
    except OSError as error:
        # Whatever the disk refuses outside the atomic writer, e.g. a log or a cache of a library.
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"the system refused access to{where or ' a file'}: {error.strerror or error}", 1)
    return 0


def _fail(text: str, status: int) -> int:
    from limbeck.engine.stages.ranks import process_rank

    # Under DDP a mistake stops every process; the first tells it to the user, the others in case it was theirs alone.
    rank = process_rank()
    sys.stderr.write(f"limbeck: {'' if rank == '0' else f'process {rank}: '}error: {text}\n")
    return status


def _near(word: str, words: Sequence[str] | dict[str, str]) -> str:
    import difflib

    found = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: limbeck COMMAND [options]",
            "",
            "Distil large deep probabilistic models into small or fast ones.",
            "",
            *lines,
            "",
            "limbeck COMMAND --help tells the options of a command.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
