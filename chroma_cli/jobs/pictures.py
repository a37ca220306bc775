"""The pictures of a job on their way to the disk: from an address or out of an answer, checked, put in place.

Between ``gateway``, which brings bytes, and ``images``, which saves them: neither knows the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from chroma_cli.clock import Deadline
from chroma_cli.errors import BrokenImage, ChromaError, NotFound, OutputError, Unavailable
from chroma_cli.images import decode, disk, spool, writer
from chroma_cli.images.destination import Destination
from chroma_cli.images.parts import CannotExtend
from chroma_cli.images.spool import Spool
from chroma_cli.images.writer import SavedFile
from chroma_cli.jobs import inscription
from chroma_cli.jobs.inscription import Level
from chroma_cli.jobs.records import JobRow

if TYPE_CHECKING:
    from chroma_cli.gateway.client import Client
    from chroma_cli.gateway.pictures import Source

#: A picture that does not decode is downloaded this often before it is reported.
_DOWNLOADS: Final = 3
_PIECE: Final = 256 * 1024


@dataclass(frozen=True)
class Saved:
    """One picture that is in place; ``index`` counts the samples from 0."""

    index: int
    file: SavedFile

    @property
    def record(self) -> dict[str, Any]:
        """As the ledger and the JSON contract have it."""
        return self.file.as_dict()


@dataclass
class Pictures:
    """Brings the pictures of jobs home. ``stdout`` gives the stream for ``-o -``.

    ``promised(job)`` gives the places that other jobs hold. ``resumed``: another process began the job, so
    that what lies at its place with the same bytes is its own work. ``metadata``: what is written into the
    pictures; None for what each job remembers.
    """

    client: Client
    rescue_dir: str
    stdout: Callable[[], BinaryIO]
    promised: Callable[[JobRow], Container[str]]
    resumed: bool = False
    metadata: Level | None = None
    _held: dict[int, Spool] = field(default_factory=dict, init=False)
    _sink: Spool | None = field(default=None, init=False)

    def sinks(self, job: JobRow, destination: Destination) -> Callable[[], Spool]:
        """A factory for the file that raw picture bytes in an answer stream into; emptied if asked again."""

        def make() -> Spool:
            if self._sink is None:
                self._sink = self._spool(job, destination, 0)
            else:
                self._sink.reset()
            return self._sink

        return make

    def prepare(self) -> None:
        """Load what saving needs, while there is nothing to save yet."""
        decode.prepare()
        inscription.prepare()

    def addresses(self, sources: Sequence[Source]) -> tuple[str, ...]:
        """The addresses worth writing down: those of a result that is made of nothing else.

        On the gateway's own host only the path is kept, because a sandbox or a tunnel changes its port.
        """
        from chroma_cli.gateway.pictures import Address

        found = [source.url for source in sources if isinstance(source, Address)]
        if len(found) != len(sources):
            return ()
        home = self.client.base_url + "/"
        return tuple(url[len(home) - 1 :] if url.startswith(home) else url for url in found)

    def keep(self, job: JobRow, destination: Destination, sources: Sequence[Source]) -> None:
        """Take over the pictures that came inside the answer, each into its own file."""
        from chroma_cli.gateway.pictures import Inline, Spooled

        for index, source in enumerate(sources):
            if isinstance(source, Spooled) and self._sink is not None:
                self._held[index], self._sink = self._sink, None
            elif isinstance(source, Inline):
                held = self._held[index] = self._spool(job, destination, index)
                source.decode_into(held)

    def remains(self, job: JobRow, destination: Destination) -> bool:
        """Whether a program that ended left bytes of this job behind."""
        return any(path.stat().st_size for _, path in self._leftovers(job, destination))

    def take_up(self, job: JobRow, destination: Destination) -> None:
        """Hold the pictures that a program left behind when it ended; of one with two files, the first."""
        # By the length of the name: what came, before the copy that was being made of it.
        for index, path in sorted(self._leftovers(job, destination), key=lambda one: len(one[1].name)):
            if index not in self._held and path.stat().st_size:
                self._held[index] = Spool(
                    destination,
                    token=job.token,
                    ordinal=index,
                    rescue_dir=self.rescue_dir,
                    late=_late(job),
                    adopt=path,
                )

    def save_all(
        self, job: JobRow, destination: Destination, deadline: Deadline, keep: Container[int] = ()
    ) -> Iterator[Saved]:
        """Save all samples but those in ``keep``; what goes wrong with one does not keep the others away.

        Raises at the end what went wrong first: BrokenImage, NotFound or Unavailable for a picture that did
        not come, OutputError at once for one that could not be put in its place.
        """
        first: ChromaError | None = None
        for index in range(max(len(job.sources), max(self._held, default=-1) + 1)):
            if index in keep or not (index in self._held or index < len(job.sources)):
                continue
            try:
                yield Saved(index, self._save(job, destination, index, deadline))
            except (BrokenImage, NotFound, Unavailable) as error:
                first = first or error
        if first is not None:
            raise first

    def copy(self, job: JobRow, destination: Destination) -> tuple[Saved, ...] | None:
        """Copies of all pictures of a saved job, with what is to be written into them; None when one of them
        is not there as it was saved, or bears more than is wanted."""
        wanted, has = self.metadata or inscription.DEFAULT, inscription.level_of(job)
        if has not in (wanted, "none") or not job.files:
            return None
        job = replace(job, destination={**(job.destination or {}), "metadata": wanted})
        with contextlib.ExitStack() as held:
            copies = []
            for index, entry in job.files.items():
                copy = held.enter_context(self._spool(job, destination, index))
                if not _copied_into(copy, entry):
                    return None
                copies.append((index, copy, entry.get("url")))
            saved = []
            for index, copy, url in copies:
                info = _check(copy)
                step = self._place if has == wanted else self._settle
                saved.append(Saved(index, step(copy, job, destination, info, url)))
            return tuple(saved)

    def drop(self, job: JobRow, destination: Destination | None) -> list[str]:
        """Let go of the temp files of this run that did not become pictures.

        What a v1 call brought cannot be had again: it is kept, and the paths are returned.
        """
        left = [*self._held.values(), *([self._sink] if self._sink is not None else [])]
        self._held.clear()
        self._sink = None
        kept = []
        for one in left:
            if job.mode == "sync" and destination is not None and one.size:
                kept.append(_kept(one, job, destination))
            else:
                one.discard()
        return kept

    def sweep(self, job: JobRow, destination: Destination) -> None:
        """Remove what an earlier owner of the job left in its folders."""
        spool.sweep_all(destination, job.token, rescue_dir=self.rescue_dir, late=_late(job))

    # --- one picture -------------------------------------------------------------------------------------

    def _leftovers(self, job: JobRow, destination: Destination) -> list[tuple[int, Path]]:
        return spool.leftovers(destination, job.token, rescue_dir=self.rescue_dir, late=_late(job))

    def _spool(self, job: JobRow, destination: Destination, index: int) -> Spool:
        return Spool(destination, token=job.token, ordinal=index, rescue_dir=self.rescue_dir, late=_late(job))

    def _save(self, job: JobRow, destination: Destination, index: int, deadline: Deadline) -> SavedFile:
        held = self._held.pop(index, None)
        if held is not None:
            try:
                return self._settle(held, job, destination, self._checked(held, job, destination), None)
            except KeyboardInterrupt:
                self._held[index] = held  # for drop, which knows what to do with it
                raise
            finally:
                if index not in self._held:
                    held.discard()
        url = self._address(job.sources[index])
        with self._spool(job, destination, index) as fresh:
            info = self._downloaded(fresh, url, deadline)
            return self._settle(fresh, job, destination, info, url)

    def _address(self, recorded: str) -> str:
        return self.client.base_url + recorded if recorded.startswith("/") else recorded

    def _downloaded(self, fresh: Spool, url: str, deadline: Deadline) -> decode.ImageInfo:
        for left in reversed(range(_DOWNLOADS)):
            self.client.download(url, fresh, deadline=deadline)
            try:
                return _check(fresh)
            except BrokenImage:
                if not left or deadline.passed:
                    raise
        raise AssertionError("unreachable")

    def _checked(self, held: Spool, job: JobRow, destination: Destination) -> decode.ImageInfo:
        """A picture out of an answer; the bytes of a v1 call cannot be had again, so they are kept."""
        try:
            return _check(held)
        except BrokenImage as error:
            if job.mode == "sync":
                kept = writer.keep_broken(held, destination, late=_late(job))
                if kept is not None:
                    error.message = f"{error.message} What came is kept as {kept}."
            raise

    def _settle(
        self, ready: Spool, job: JobRow, destination: Destination, info: decode.ImageInfo, url: str | None
    ) -> SavedFile:
        copy, warnings = self._inscribed(ready, job, destination, info)
        with copy or contextlib.nullcontext(ready) as final:  # what came stays until this is in place
            saved = self._place(final, job, destination, info, url)
        return replace(saved, warnings=(*saved.warnings, *warnings))

    def _place(
        self, final: Spool, job: JobRow, destination: Destination, info: decode.ImageInfo, url: str | None
    ) -> SavedFile:
        if destination.kind == "stdout":
            return writer.to_stdout(final, destination, info, self.stdout())
        return writer.place(
            final,
            destination,
            info,
            late=_late(job),
            promised=self.promised(job),
            resumed=self.resumed,
            url=url,
        )

    def _inscribed(
        self, ready: Spool, job: JobRow, destination: Destination, info: decode.ImageInfo
    ) -> tuple[Spool | None, tuple[str, ...]]:
        """A copy of the picture with its recipe in it; None, perhaps with a warning, where it stays as it
        came."""
        level = self.metadata or inscription.level_of(job)
        metadata = inscription.metadata_of(job, level, ready.ordinal)
        if metadata is None:
            return None, ()
        try:
            made = self._spool(job, destination, ready.ordinal)
        except OutputError:
            return None, ("The picture is saved without its recipe: there was no room for a copy.",)
        try:
            warnings = inscription.copy(ready, info, metadata, made)
        except (CannotExtend, OutputError, BrokenImage) as reason:
            made.discard()
            return None, (f"The picture is saved without its recipe: {str(reason).rstrip('.')}.",)
        except BaseException:
            made.discard()
            raise
        return made, warnings


def _copied_into(copy: Spool, entry: Mapping[str, Any]) -> bool:
    """Whether the file of this entry is there with the bytes that were saved, which ``copy`` holds then."""
    try:
        with disk.open_regular(Path(str(entry.get("path")))) as file:
            while piece := file.read(_PIECE):
                copy.write(piece)
    except (OSError, ValueError):
        return False
    return copy.sha256 == entry.get("sha256")


def _check(picture: Spool) -> decode.ImageInfo:
    """Return what the picture is; raises as :func:`chroma_cli.images.decode.verify`."""
    with picture.reader() as source:
        return decode.verify(source)


def _kept(one: Spool, job: JobRow, destination: Destination) -> str:
    """Keep what a v1 call brought, under a name that tells a picture from a part of one."""
    try:
        return writer.keep(one, destination, _check(one), late=_late(job))
    except BrokenImage:
        return writer.keep(one, destination, late=_late(job), suffix=".broken")


def _late(job: JobRow) -> Mapping[str, object]:
    """Values for names that only the answer brings."""
    known = {"id": job.request_id, "seed": job.seed}
    return {name: value for name, value in known.items() if value is not None}
