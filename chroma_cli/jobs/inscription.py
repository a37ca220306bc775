"""What a job writes into its pictures: from the ledger's row to the metadata of a file.

The formats are loaded for the first picture, or by :func:`prepare` before it comes, and not on the way to the
submit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from chroma_cli.clock import utc_text
from chroma_cli.images.spool import Spool
from chroma_cli.jobs.records import JobRow
from chroma_cli.request import schema

if TYPE_CHECKING:
    from chroma_cli.images.decode import ImageInfo
    from chroma_cli.images.parts import Metadata
    from chroma_cli.images.recipe import Recipe

Level = Literal["full", "source-only", "none"]
DEFAULT: Final[Level] = "full"


def prepare() -> None:
    """Load the formats; worth it ahead of time, for who has to wait anyway."""
    from chroma_cli.images import containers, recipe  # noqa: F401


def level_of(job: JobRow) -> Level:
    """What was asked for when the job was submitted."""
    return as_level((job.destination or {}).get("metadata")) or DEFAULT


def as_level(word: object) -> Level | None:
    """``word`` as a level, None where it is none."""
    return next((level for level in get_args(Level) if level == word), None)


def recipe_of(job: JobRow, index: int = 0) -> Recipe | None:
    """The recipe of sample ``index`` (from 0) of a job whose request is known.

    In the recipe, samples count from 1, and one that is alone bears no number. The date is the job's, so that
    a picture which is saved again after a crash has the same bytes.
    """
    if not job.request:
        return None
    from chroma_cli.images.recipe import Recipe

    samples = job.request.get(schema.SAMPLES.name)
    several = index > 0 or (type(samples) is int and samples > 1)
    return Recipe(
        dict(job.request),
        request_id=job.request_id,
        created=utc_text(job.created_at),
        sandbox=job.base_url == "sandbox",
        seed=job.seed,
        sample=index + 1 if several else None,
    )


def metadata_of(job: JobRow, level: Level, index: int = 0) -> Metadata | None:
    """What goes into sample ``index`` (from 0) of the job; of a job submitted elsewhere only the source is
    known."""
    if level == "none":
        return None
    from chroma_cli.images import recipe

    return recipe.metadata(recipe_of(job, index), level)


def copy(ready: Spool, info: ImageInfo, metadata: Metadata, into: Spool) -> tuple[str, ...]:
    """Write the picture with its metadata into another spool; returns what is worth a warning.

    Raises :class:`~chroma_cli.images.parts.CannotExtend` when the file has to stay as it came, and what the
    spool raises.
    """
    from chroma_cli.images import containers

    with ready.reader() as source:
        return containers.embed(source, info.format, metadata, into.write)
