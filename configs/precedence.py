"""Which source a setting comes from: the recipe of the project, a YAML file, or the command line, the last one wins.

A settings class may say two things as class variables: `RECIPE`, a file of this folder that is read before all others
where a user names none of some settings, and `ONE_OF`, groups of settings of which a run takes one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.yaml_settings import read_settings


@dataclass(frozen=True)
class Recipe:
    """Settings for what ships with the project."""

    file: str
    """Name of a YAML file in this folder."""
    unless: tuple[str, ...]
    """Settings any of which means that the run is about something else."""

    @property
    def path(self) -> str:
        """Where the file is."""
        return str(Path(__file__).parent / self.file)

    def describe(self) -> str:
        """What is taken, and when it is not.

        >>> Recipe("sft_embedded.yaml", ("base", "data")).describe()
        'Takes the recipe of configs/sft_embedded.yaml, as neither --base nor --data is named'
        """
        return f"Takes the recipe of configs/{self.file}, as neither --{' nor --'.join(self.unless)} is named"


def recipe_of(schema: type, files: Sequence[str], pairs: Sequence[str]) -> Recipe | None:
    """The recipe that a run takes, None where files or pairs name what it is not about."""
    recipe: Recipe | None = getattr(schema, "RECIPE", None)
    named = set().union(*_sources(files, pairs))
    return None if recipe is None or named & set(recipe.unless) else recipe


def overridden(schema: type, files: Sequence[str], pairs: Sequence[str]) -> set[str]:
    """Settings that an earlier source gives though a later one gives another of their group."""
    sources = _sources(files, pairs)
    taken_back = set()
    for group in getattr(schema, "ONE_OF", ()):
        given = [found for source in sources if (found := source & set(group))]
        taken_back |= set().union(*given) - given[-1] if given else set()
    return taken_back


def _sources(files: Sequence[str], pairs: Sequence[str]) -> list[set[str]]:
    """The names that each file gives, and those that the command line does."""
    of_pairs = {one.removeprefix("--").partition("=")[0] for one in pairs if one.startswith("--")}
    return [*({setting.name for setting in read_settings(file)} for file in files), of_pairs]
