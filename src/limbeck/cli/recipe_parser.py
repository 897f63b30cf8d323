"""A recipe and its overrides on a command line: the same for one run and for every point of a sweep."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.cli.known_classes import print_help_of_recipe
from limbeck.cli.parsing import import_classes, instantiate, new_parser, parse, to_yaml
from limbeck.cli.recipe_files import RecipeFile, find_recipe, with_new_objectives
from limbeck.cli.words import help_wanted, take
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from limbeck.engine.experiments.recipe import Recipe

__all__ = ["OPTIONS", "RecipeCommand"]

OPTIONS = ("name", "output", "dry_run", "config", "over", "jobs", "backend")
"""What a command line may hold beside the fields of the recipe."""

_RUN, _SWEEP = "default", "sweep"  # names of runs and sweeps that are given none

_SEED = 0  # fixed: what a recipe builds with random weights, such as a learned divergence, is the same in every run


@dataclass(frozen=True)
class RecipeCommand:
    """``limbeck run`` or ``limbeck sweep`` with its words.

    Attributes:
        command: ``"run"`` or ``"sweep"``.
        recipe: its name or path, as typed.
        file: the recipe.
        words: overrides and options, without the recipe's name.
        parser: what accepts them.
    """

    command: str
    recipe: str
    file: RecipeFile
    words: Sequence[str]
    parser: ArgumentParser

    @classmethod
    def unless_help(cls, command: str, words: Sequence[str], usage: str) -> RecipeCommand | None:
        """Find the recipe that the first word names, or print the help if the words ask for that.

        Args:
            command: ``"run"`` or ``"sweep"``.
            words: the command line after it.
            usage: the help where no recipe is named.

        Returns:
            The command; ``None`` if help was printed.

        Raises:
            RecipeError: no recipe is named, there is none of this name, or it is not a YAML mapping.
        """
        if words and help_wanted(words[:1]):
            sys.stdout.write(usage)
            return None
        if not words or words[0].startswith("-"):
            raise RecipeError(f"which recipe? limbeck {command} RECIPE [--key=value ...]; `limbeck recipes` lists them")
        found = cls.of(command, words)
        if help_wanted(words):
            import_classes()
            found.parser.print_help()
            print_help_of_recipe(found.file.read())
            return None
        return found

    @property
    def typed(self) -> str:
        """The command line as it was typed."""
        return shlex.join(["limbeck", self.command, self.recipe, *self.words])

    @classmethod
    def of(cls, command: str, words: Sequence[str]) -> RecipeCommand:
        """Find the recipe that the first word names.

        Args:
            command: ``"run"`` or ``"sweep"``.
            words: the command line after it.

        Raises:
            RecipeError: there is no such recipe, or it is not a YAML mapping.
        """
        from limbeck.engine.experiments.recipe import Recipe
        from limbeck.engine.sweeps.sweep import Backend

        file = find_recipe(words[0])
        file.read()
        parser = new_parser(
            f"limbeck {command} {file.name}",
            "The fields of the recipe, any of which can be overridden, and the options of the run. The defaults shown "
            "here are those of recipes in general; where the recipe gives a field, its value holds.",
        )
        parser.add_argument("--config", action="config", help="a YAML file with further overrides; may be repeated")
        parser.add_argument(
            "--name", type=str | None, default=None, help="name of the run; by default `default`, of a sweep `sweep`"
        )
        parser.add_argument("--output", type=str, default="runs", help="directory where all runs are kept")
        parser.add_argument("--dry_run", "--dry-run", action="store_true", help="do only a few steps of every stage")
        parser.add_argument("--over", action="append", default=[], metavar="KEY=VALUE,VALUE",
                            help="sweep over these values; KEY,KEY=VALUE,VALUE gives two fields the same value; may be "
                            "repeated, for a grid")  # fmt: skip
        parser.add_argument("--jobs", type=int, default=None, help="for a sweep: how many processes run in parallel")
        parser.add_argument(
            "--backend", type=Backend, default="joblib", help="for a sweep: this machine (joblib) or a cluster (ray)"
        )
        parser.add_class_arguments(Recipe)
        parser.set_defaults({"method": None})  # that of the objective's function, see `parsed`
        return cls(command, words[0], file, words[1:], parser)

    def parsed(self, *more: str) -> Namespace:
        """The settings: the recipe, then the words, then ``more``.

        Raises:
            RecipeError: an option is unknown or has a wrong value.
        """
        words = [*self.words, *more]
        methods = []
        for _, path in take(self.words, "--config".__eq__)[0]:
            if path:
                further = RecipeFile(Path(path).stem, Path(path)).read()
                if "objective" in further:
                    methods.append(f"--objective={json.dumps(further['objective'])}")
        recipe = self.file.read()
        changed = with_new_objectives(recipe, [*methods, *words])
        config = str(self.file.path) if changed == recipe else json.dumps(changed)
        try:
            found = parse(self.parser, ["--config", config, *words])
        except RecipeError as error:
            raise RecipeError(f"{error}{self._stray_baseline(words)}") from None
        if found.method is None:
            found.method = str(found.objective.class_path).rpartition(".")[2]
        if found.name is None:  # one recipe is run and swept in directories of their own
            found.name = _SWEEP if self.command == "sweep" or found.sweep or found.over else _RUN
        return found

    def _stray_baseline(self, words: Sequence[str]) -> str:
        """Which words speak of a baseline that the recipe does not have: one misspelt lacks all that it needs."""
        known = list(self.file.read().get("baselines") or {})
        named = [found[1] for word in words if (found := re.match(r"--baselines\.([^.=]+)\.", word))]
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                return f"; the recipe has no baseline {name!r}" + (f", did you mean {near[0]}?" if near else "")
        return ""

    def built(self, found: Namespace) -> tuple[Recipe, str]:
        """The recipe that settings describe, and its YAML with every default filled in."""
        from limbeck.engine.experiments.recipe import Recipe
        from limbeck.engine.stages.seeding import seeded

        resolved = to_yaml(self.parser, found, without=OPTIONS)
        with seeded(_SEED):
            built = instantiate(self.parser, found)
        recipe = Recipe(**{key: value for key, value in vars(built).items() if key not in OPTIONS})
        return recipe.dry() if found.dry_run else recipe, resolved

    def directory(self, found: Namespace) -> Path:
        """Where the run is kept.

        Raises:
            RecipeError: the run's name is none of a directory inside that of the recipe.
        """
        if Path(found.name).name != found.name or found.name in ("", ".."):
            raise RecipeError(f"--name={found.name} is no name of a directory; --output says where runs are kept")
        # A dry run has a directory of its own: it must not move the models of a finished run aside.
        dry = "dry-run" if found.name == _RUN else f"{found.name}-dry-run"
        name = dry if found.dry_run else found.name
        return Path(found.output) / self.file.name / name

    def cache(self, found: Namespace) -> Path:
        """Where extractors are kept between runs."""
        return Path(found.output) / "cache"
