"""What is written into the ledger: the steps in the life of a job, who works on it, and what is pruned.

Each public method is one transaction. How the file is opened, locked and replaced is the business of
:mod:`chroma_cli.jobs.ledger`; the transactions here may be run again after a lock or a replaced file, so
they touch nothing but the database.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from chroma_cli.errors import Charged, LimitError
from chroma_cli.jobs import budget
from chroma_cli.jobs.answers import (
    IS_UNSETTLED,
    UNSETTLED_ROWS,
    Answers,
    by_request,
    columns_of,
    decoded,
    find,
    highest_cost,
    of_digest,
    row_of,
    saved_since,
)
from chroma_cli.jobs.budget import Limit
from chroma_cli.jobs.records import (
    PLAIN_LOOK,
    UNSETTLED,
    Intent,
    InWork,
    JobRow,
    LastLook,
    LedgerUnusable,
    NotResubmittable,
    PlacePromised,
    PlaceTaken,
    SavedBefore,
    State,
    Timings,
    files_from,
    files_to,
    finite,
    outcome_unknown,
    plain,
    request_digest,
    row_from,
    texts_to,
    to_json,
    whole_number,
)
from chroma_cli.request.schema import TYPICAL_COST

if TYPE_CHECKING:
    import sqlite3

_PRUNED_AT_ONCE: Final = 2000
_DAY: Final = 86400.0

# From which states a step may be taken. Whoever comes late finds the door closed: the row stays as it is.
_MAY_GET_ID: Final = frozenset[State](("submitting", "unknown", "forgotten"))
_MAY_MOVE: Final = frozenset[State](("queued", "processing"))
_MAY_COMPLETE: Final = frozenset[State]((*UNSETTLED, "expired", "forgotten"))
_MAY_SAVE: Final = frozenset[State]((*UNSETTLED, "saved", "expired", "forgotten"))
_MAY_FAIL: Final = frozenset[State](("submitting", "queued", "processing", "unknown", "expired"))
_MAY_EXPIRE: Final = frozenset[State](("queued", "processing", "completed", "unknown"))
_MAY_BE_UNSENT: Final = frozenset[State](("submitting", "unknown"))
_MAY_RESUBMIT: Final = frozenset[State](("unknown", "failed", "expired", "forgotten"))

_GONE: Final = {
    "type": "outcome_unknown",
    "message": "The program that sent this job ended before it heard the answer.",
    "hint": None,
    "exit_code": 9,
    "charged": "unknown",
}
_GONE_WITH_ANSWER: Final = {
    "type": "outcome_unknown",
    "message": "The answer to this blocking call came, but the program ended before the picture was saved.",
    "hint": None,
    "exit_code": 9,
    "charged": "yes",
}


class Entries(Answers):
    """What can be written into a ledger and asked of it.

    Every method raises :class:`~chroma_cli.jobs.records.LedgerUnusable` when the file cannot be used. Steps
    return the row as it is afterwards; a step that does not fit the row's state (a late "failed" for a saved
    job) changes nothing. Each step also counts as a sign of life of the owner.
    """

    @abstractmethod
    def _missing(self, number: int) -> Exception:
        """The error for a row that should be there and is not."""

    # --- a job's life ------------------------------------------------------------------------------------

    def begin(
        self,
        intent: Intent,
        *,
        limits: Sequence[Limit] = (),
        exclusive: bool = True,
        look: LastLook = PLAIN_LOOK,
    ) -> JobRow:
        """Record what is about to be sent, claimed by this process.

        A job of the very request that is in flight, and that nobody works on, is given back instead: claimed,
        and promised to this place. Raises :class:`OutcomeUnknown` for one that may exist and cannot be asked
        for, and what :class:`LastLook` says. With ``exclusive`` a place that is promised to another unsettled
        job raises :class:`PlacePromised`. Raises :class:`LimitError` when one of the ``limits`` would be
        passed, and :class:`~chroma_cli.jobs.budget.PriceNotKnown` while another job has to tell the price
        first. Checks, reservation and intent are one transaction.
        """
        token = intent.token or secrets.token_hex(8)
        written = False

        def work(db: sqlite3.Connection) -> JobRow:
            nonlocal written
            row = self._insert(db, intent, token, limits, exclusive, look)
            written = True
            return row

        try:
            return self._remember(self._write(work))
        except KeyboardInterrupt:
            if written:  # perhaps committed, and certainly not sent
                with suppress(LedgerUnusable):
                    self._write(lambda db: _withdraw(db, token, self._clock.wall()))
            raise

    def submitted(
        self,
        number: int,
        request_id: str,
        *,
        remaining_credits: float | None = None,
        taken_at: float | None = None,
        state: State = "queued",
        note: bool = True,
    ) -> JobRow:
        """The gateway's answer to the submit is known; also written over "unknown" by a late owner.

        ``taken_at``: when the job was taken, by the gateway's clock. ``note``: the credits are also noted as
        those seen last.
        """
        now = self._clock.wall()
        changes = {"request_id": request_id, "state": state, "submitted_at": now, "error": None}
        changes["taken_at"] = finite(taken_at)
        changes |= {"owner": self._me.text, "claimed_at": now}  # a late owner is at work again
        return self._step(number, _MAY_GET_ID, changes, remaining_credits=remaining_credits, note=note)

    def progress(self, number: int, state: Literal["queued", "processing"]) -> JobRow:
        """What a poll said."""
        return self._step(number, _MAY_MOVE, {"state": state})

    def completed(
        self,
        number: int,
        *,
        sources: Sequence[str] = (),
        seed: int | None = None,
        cost: float | None = None,
        remaining_credits: float | None = None,
        timings: Timings | None = None,
        observed: float | None = None,
        note: bool = True,
    ) -> JobRow:
        """The result is known; to be called before the download. What is ``None`` or empty keeps its value.

        ``observed`` is the time from submit to result in seconds as seen from here, for learning where the
        gateway reports none, or more than that.
        """
        timings = timings or Timings()
        # a report of more time than has passed would make every later wait too long
        told = [value for value in (timings.whole(), finite(observed)) if value is not None and value > 0]
        seconds = min(told, default=None)
        known = {
            "sources": texts_to(sources) if sources else None,
            "seed": whole_number(seed),
            "cost": finite(cost),
            "queue_time": finite(timings.queue),
            "inference_time": finite(timings.inference),
            "total_time": finite(timings.total),
            "seconds": seconds,
        }
        changes: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
        changes |= {"state": "completed", "charged": "yes", "error": None}
        changes["completed_at"] = self._clock.wall()
        return self._step(number, _MAY_COMPLETE, changes, remaining_credits=remaining_credits, note=note)

    def saved_file(self, number: int, index: int, file: Mapping[str, Any], *, settle: bool = False) -> JobRow:
        """One sample is in place: renamed, and its folder synced. ``settle``: it was the last, as
        :meth:`saved`."""
        now = self._clock.wall()
        end = {"state": "saved", "saved_at": now, "error": None} if settle else {}

        def changes(columns: Mapping[str, Any]) -> dict[str, Any]:
            return {"files": files_to({**files_from(columns["files"]), index: file}), **end}

        return self._write(lambda db: self._change(db, number, _MAY_SAVE, changes))

    def saved(self, number: int) -> JobRow:
        """Every sample is in place: the job is settled and no longer claimed."""
        return self._step(
            number, _MAY_SAVE, {"state": "saved", "saved_at": self._clock.wall(), "error": None}
        )

    def failed(self, number: int, error: Mapping[str, Any], *, charged: Charged = Charged.NO) -> JobRow:
        """The gateway said FAILED."""
        return self._step(
            number, _MAY_FAIL, {"state": "failed", "error": plain(error), "charged": str(charged)}
        )

    def paid_in_vain(self, number: int, error: Mapping[str, Any] | None) -> JobRow:
        """A blocking call was paid for, and what it brought is no picture, or lies elsewhere: settled."""
        changes = {"state": "failed", "charged": "yes", "error": plain(error)}
        return self._step(number, frozenset(UNSETTLED), changes)

    def expired(self, number: int, error: Mapping[str, Any] | None = None) -> JobRow:
        """It cannot be had any more."""
        return self._step(number, _MAY_EXPIRE, {"state": "expired", "error": plain(error)})

    def unknown(self, number: int, error: Mapping[str, Any] | None = None) -> JobRow:
        """The submit went out and no usable answer came: a person has to settle it. The claim ends."""
        changes = {"state": "unknown", "charged": "unknown", "error": plain(error), "owner": None}
        return self._step(number, frozenset({"submitting"}), changes)

    def unsent(self, number: int, error: Mapping[str, Any] | None = None) -> JobRow:
        """The submit certainly made no job: settled as failed, nothing charged."""
        changes = {"state": "failed", "charged": "no", "error": plain(error)}
        return self._step(number, _MAY_BE_UNSENT, changes)

    def note_error(self, number: int, error: Mapping[str, Any] | None) -> JobRow:
        """Remember what went wrong last with a job that goes on."""
        return self._step(number, frozenset(UNSETTLED), {"error": plain(error)})

    def catch_up(self, row: JobRow) -> JobRow:
        """Write down all that is known of a job whose earlier steps could not be."""
        times = row.timings
        changes = {
            "state": row.state,
            "request_id": row.request_id,
            "sources": texts_to(row.sources),
            "files": files_to(row.files),
            "seed": whole_number(row.seed),
            "cost": finite(row.cost),
            "remaining_credits": finite(row.remaining_credits),
            "queue_time": finite(times.queue),
            "inference_time": finite(times.inference),
            "total_time": finite(times.total),
            "charged": str(row.charged),
            "error": plain(row.error),
            "submitted_at": row.submitted_at,
            "taken_at": row.taken_at,
            "completed_at": row.completed_at,
            "saved_at": row.saved_at,
        }
        return self._step(row.number, frozenset(UNSETTLED), changes)

    def adopt(
        self,
        request_id: str,
        base_url: str,
        *,
        intent: Intent | None = None,
        submitted_at: float | None = None,
        destination: Mapping[str, Any] | None = None,
        promised: Sequence[str] = (),
    ) -> JobRow:
        """The row of an id that was submitted elsewhere; made when this ledger never saw it. Not claimed.

        ``intent`` and ``submitted_at``, where it is known what was submitted and when.
        """
        token, now = secrets.token_hex(8), self._clock.wall()
        bare = Intent(base_url, {}, TYPICAL_COST, destination=destination, promised=tuple(promised))

        def work(db: sqlite3.Connection) -> JobRow:
            known = by_request(db, request_id, base_url)
            if known is not None:
                return known
            columns = self._columns(intent or bare, token, now)
            columns |= {"state": "queued", "request_id": request_id, "owner": None, "claimed_at": None}
            if intent is None:
                columns |= {"request": None, "digest": None, "samples": None, "work": None}
            if submitted_at is not None:
                columns["submitted_at"] = columns["created_at"] = min(submitted_at, now)
            return row_of(db, _insert_row(db, columns, (intent or bare).promised))

        return self._remember(self._write(work))

    def plan_again(
        self,
        number: int,
        destination: Mapping[str, Any] | None,
        promised: Sequence[str],
        *,
        exclusive: bool = True,
    ) -> JobRow:
        """Promise other places for an unsettled job (``fetch -o``). Raises :class:`PlacePromised`."""

        def work(db: sqlite3.Connection) -> JobRow:
            if exclusive:
                _check_places(db, promised, number)
            changes = {"destination": plain(destination), "promised": texts_to(promised)}
            row = self._change(db, number, frozenset(UNSETTLED), changes)
            if not row.settled:
                db.execute("DELETE FROM promises WHERE job = ?", (number,))
                _promise(db, number, promised)
            return row

        return self._write(work)

    def settle_forgotten(self, number: int) -> JobRow:
        """A person wants to hear no more of it. To be claimed first: somebody may be working on it."""
        return self._step(number, frozenset(UNSETTLED), {"state": "forgotten"})

    def resubmit(
        self,
        number: int,
        intent: Intent,
        *,
        limits: Sequence[Limit] = (),
        exclusive: bool = True,
        look: LastLook = PLAIN_LOOK,
    ) -> JobRow:
        """Settle the old row and begin a new one in its place, in one transaction.

        Raises :class:`NotResubmittable` when the old one has an id by now, was sent again already, or is
        being worked on; else as :meth:`begin`.
        """
        token = intent.token or secrets.token_hex(8)

        def work(db: sqlite3.Connection) -> JobRow:
            old = self._own(db, number)
            self.check_resubmittable(old)
            if old.state == "unknown":
                self._change(db, number, _MAY_RESUBMIT, {"state": "forgotten"})
            new = self._insert(db, intent, token, limits, exclusive, look)
            return _supersede(db, number, new)

        return self._remember(self._write(work))

    # --- who works on it ---------------------------------------------------------------------------------

    def claim(self, number: int) -> JobRow | None:
        """Take the job for this process and return it as it is by now; ``None`` when another one that is
        alive has it."""

        def work(db: sqlite3.Connection) -> JobRow | None:
            if self.in_work(self._own(db, number)):
                return None
            claim = {"owner": self._me.text, "claimed_at": self._clock.wall()}
            return self._change(db, number, None, claim)

        return self._write(work)

    def hold(self, number: int) -> JobRow | None:
        """The job as it is by now, which nobody else works on: as :meth:`claim`, without a write for one that
        is this process's, or settled."""
        row = self._read(lambda db: self._own(db, number))
        return row if row.settled or row.owner == self._me else self.claim(number)

    def release(self, number: int) -> None:
        """Give up a claim of this process; one of another stays."""
        with_me = (number, self._me.text)
        self._write(
            lambda db: db.execute(
                "UPDATE jobs SET owner = NULL, claimed_at = NULL WHERE number = ? AND owner = ?", with_me
            )
        )

    def heartbeat(self, number: int) -> None:
        """A sign of life, for those who look from other hosts."""
        values = (self._clock.wall(), number, self._me.text)
        self._write(
            lambda db: db.execute("UPDATE jobs SET claimed_at = ? WHERE number = ? AND owner = ?", values)
        )

    def sweep(self) -> list[JobRow]:
        """Rows whose owner ended between "I shall send" and the answer become unknown; the caller tells.

        So do blocking calls that were answered and not saved: they have nothing to fetch again. Those whose
        files are all in place become saved, and are not among the rows returned.
        """
        if not self._read(self._abandoned):
            return []

        def work(db: sqlite3.Connection) -> list[JobRow]:
            rows = [self._abandon(db, row) for row in self._abandoned(db)]
            return [row for row in rows if row.state == "unknown"]

        return self._write(work)

    # --- the account, and room ---------------------------------------------------------------------------

    def note_credits(self, value: float, base_url: str) -> None:
        """Remember the balance (dollars) that was seen just now; :meth:`last_credits` gives it back."""
        now = self._clock.wall()
        self._write(lambda db: _note_credits(db, value, base_url, now))

    def prune(self, days: float) -> int:
        """Remove settled jobs older than that and tell how many; never those of this month (UTC), whose
        costs count for a budget."""
        now = self._clock.wall()
        before = min(now - max(0.0, days) * _DAY, budget.month_start(now))

        def work(db: sqlite3.Connection) -> int:
            query = (
                f"DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE NOT {IS_UNSETTLED} "  # noqa: S608
                "AND created_at < ? AND updated_at < ? LIMIT ?)"
            )
            return db.execute(query, (before, before, _PRUNED_AT_ONCE)).rowcount

        removed = 0
        while count := self._write(work):  # in pieces: others want to write as well
            removed += count
        if removed:
            self._write(_count_anew)
        return removed

    # --- pieces of the above -----------------------------------------------------------------------------

    def _insert(
        self,
        db: sqlite3.Connection,
        intent: Intent,
        token: str,
        limits: Sequence[Limit],
        exclusive: bool,
        look: LastLook,
    ) -> JobRow:
        twins = self._twins(db, intent)
        orphans = (row for row in twins if not row.settled and row.fetchable)
        orphan = next((row for row in orphans if not self.is_claimed(row)), None)
        if orphan is not None:
            return self._take_up(db, orphan.number, intent, exclusive=exclusive)
        lost = self._lost(twins, look)
        self._check_place(db, intent, look)
        if limits and self.history_lost:
            raise LimitError(
                "A budget is set, and what was spent so far is not known: the job ledger was damaged or"
                " replaced.",
                hint="Nothing was sent. The next call counts from what is in the ledger now.",
            )
        now = self._clock.wall()
        highest = highest_cost(db, intent.base_url, intent.work, intent.samples)
        if highest is not None and highest > intent.expected_cost:
            intent = replace(intent, expected_cost=highest)
        budget.check(db, intent, limits, now, lambda row: row.owner == self._me or self.in_work(row))
        for old in lost:
            self._change(db, old.number, None, {"state": "forgotten"})
        if exclusive:
            _check_places(db, intent.promised, None)
        columns = self._columns(intent, token, now)
        columns["run"] = next((limit.run for limit in limits if limit.run is not None), None)
        new = row_of(db, _insert_row(db, columns, intent.promised))
        for old in lost:
            new = _supersede(db, old.number, new)
        return new

    def _twins(self, db: sqlite3.Connection, intent: Intent) -> list[JobRow]:
        """The jobs of the very request, unsettled or saved; none where the server draws the seed, because
        then it is another picture each time."""
        if intent.seed is None:
            return []
        return of_digest(db, intent.base_url, request_digest(intent.request))

    def _lost(self, twins: Sequence[JobRow], look: LastLook) -> list[JobRow]:
        """Those of the twins that are to be settled by sending the request again. Raises what speaks against
        sending it."""
        if look.in_batch:
            made = [row for row in twins if row.state == "saved" and row.number not in look.passed_over]
            if made:
                raise SavedBefore(made)
            for row in twins:
                if not row.settled and self.is_claimed(row):
                    raise InWork(row)
        lost = [row for row in twins if not row.settled and not self.is_claimed(row)]
        if lost and not look.resubmit_unknown:
            raise outcome_unknown(lost[0])
        return lost

    def _check_place(self, db: sqlite3.Connection, intent: Intent, look: LastLook) -> None:
        """Raises :class:`PlaceTaken` for what was saved there meanwhile, and what ``look.check`` does."""
        if look.since is not None:
            number = saved_since(db, intent.promised, look.since)
            if number is not None:
                raise PlaceTaken(f"{intent.promised[0]}: job {number} has saved its picture there meanwhile.")
        if look.check is not None:
            look.check()

    def _take_up(self, db: sqlite3.Connection, number: int, intent: Intent, *, exclusive: bool) -> JobRow:
        """Claim an unsettled job, and have its picture brought to the place of this intent."""
        if exclusive:
            _check_places(db, intent.promised, number)
        changes: dict[str, Any] = {"owner": self._me.text, "claimed_at": self._clock.wall()}
        if not _same_place(find(db, number), intent):
            # what is saved of it elsewhere is not at this place
            changes |= {"destination": plain(intent.destination), "promised": texts_to(intent.promised)}
            changes |= {"files": "{}"}
            db.execute("DELETE FROM promises WHERE job = ?", (number,))
            _promise(db, number, intent.promised)
        return self._change(db, number, None, changes)

    def _columns(self, intent: Intent, token: str, now: float) -> dict[str, Any]:
        expected = finite(intent.expected_cost)
        return {
            "token": token,
            "base_url": intent.base_url,
            "mode": intent.mode,
            "state": "submitting",
            "request": plain(intent.request),
            "digest": request_digest(intent.request),
            "destination": plain(intent.destination),
            "promised": texts_to(intent.promised),
            "seed": whole_number(intent.seed),
            "samples": whole_number(intent.samples),
            "work": intent.work,
            "sources": "[]",
            "files": "{}",
            "charged": "unknown",
            # Never 0 for want of knowing: a budget must not be passed by it.
            "expected_cost": TYPICAL_COST if expected is None else max(0.0, expected),
            "created_at": now,
            "updated_at": now,
            "owner": self._me.text,
            "claimed_at": now,
        }

    def _step(
        self,
        number: int,
        allowed: frozenset[State] | None,
        changes: Mapping[str, Any],
        *,
        remaining_credits: float | None = None,
        note: bool = True,
    ) -> JobRow:
        balance = finite(remaining_credits)
        if balance is not None:
            changes = {**changes, "remaining_credits": balance}

        def work(db: sqlite3.Connection) -> JobRow:
            row = self._change(db, number, allowed, changes)
            if balance is not None and note:
                _note_credits(db, balance, row.base_url, self._clock.wall())
            return row

        return self._write(work)

    def _change(
        self,
        db: sqlite3.Connection,
        number: int,
        allowed: frozenset[State] | None,
        changes: Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> JobRow:
        """Set columns of one row, unless its state forbids it; a settled row lets go of everything.

        ``changes`` may be made from the columns as they are.
        """
        columns = columns_of(db, number)
        if not columns or self._tokens.get(number, columns["token"]) != columns["token"]:
            raise self._missing(number)
        state = columns["state"]
        if allowed is not None and state not in allowed:
            return self._read_back(number, columns)
        now = self._clock.wall()
        values: dict[str, Any] = {"updated_at": now}
        if columns["owner"] == self._me.text:
            values["claimed_at"] = now
        new = changes(columns) if callable(changes) else changes
        values |= new
        settled = values.get("state", state) not in UNSETTLED
        if (settled and "state" in new) or values.get("owner", "") is None:
            values |= {"owner": None, "claimed_at": None}
        row = self._read_back(number, columns | values)
        if settled:
            db.execute("DELETE FROM promises WHERE job = ?", (number,))
        elif state not in UNSETTLED:
            _promise(db, number, row.promised)
        names = ", ".join(f"{name} = ?" for name in values)
        db.execute(f"UPDATE jobs SET {names} WHERE number = ?", (*values.values(), number))  # noqa: S608
        return row

    def _read_back(self, number: int, columns: Mapping[str, Any]) -> JobRow:
        """The job of these columns; decoding them is what costs, so it is done once a step."""
        row = row_from(columns)
        if row is None:
            raise self._missing(number)
        return row

    def _own(self, db: sqlite3.Connection, number: int) -> JobRow:
        """The row of that number, if it is still the job this object knows by it."""
        row = find(db, number)
        if row is None or self._tokens.get(number, row.token) != row.token:
            raise self._missing(number)
        return row

    def _remember(self, row: JobRow) -> JobRow:
        self._tokens[row.number] = row.token
        return row

    def _abandoned(self, db: sqlite3.Connection) -> list[JobRow]:
        query = (
            f"{UNSETTLED_ROWS} AND (state = 'submitting' OR (mode = 'sync' AND state <> 'unknown' "
            "AND sources = '[]'))"
        )
        rows = decoded(db, query, ())
        return [row for row in rows if row.owner != self._me and not self.in_work(row)]

    def _abandon(self, db: sqlite3.Connection, row: JobRow) -> JobRow:
        if row.mode == "sync" and len(row.files) >= (row.samples or 1):
            return self._change(db, row.number, None, {"state": "saved", "saved_at": self._clock.wall()})
        error = _GONE if row.state == "submitting" else _GONE_WITH_ANSWER
        changes = {"state": "unknown", "owner": None, "charged": error["charged"]}
        # What the owner said itself in time is worth more than our guess.
        details = row.error or {**error, "request_id": row.request_id, "job": row.number}
        return self._change(db, row.number, None, changes | {"error": plain(details)})

    def check_resubmittable(self, old: JobRow) -> None:
        """Raises :class:`NotResubmittable` as :meth:`resubmit` would, which checks again."""
        if old.superseded_by is not None:
            raise NotResubmittable(
                f"Job {old.number} was sent again already, as job {old.superseded_by}.", job=old.number
            )
        if self.in_work(old):
            raise NotResubmittable(f"Job {old.number} is being worked on by another process.", job=old.number)
        if old.state not in _MAY_RESUBMIT:
            home = f"Bring it home with: chroma fetch {old.number}"
            hint = home if old.fetchable and not old.settled else None
            raise NotResubmittable(
                f"Job {old.number} is {old.state}: sending it again would pay twice.",
                hint=hint,
                job=old.number,
                request_id=old.request_id,
            )


def _insert_row(db: sqlite3.Connection, columns: Mapping[str, Any], promised: Sequence[str]) -> int:
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    cursor = db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(columns.values()))  # noqa: S608
    number = cursor.lastrowid
    assert number is not None
    _promise(db, number, promised)
    return number


def _same_place(row: JobRow | None, intent: Intent) -> bool:
    """Whether the job's picture goes where the intent wants it; of a template, under whatever number."""
    if row is None or (row.promised and row.promised == intent.promised):
        return row is not None
    old, new = row.destination or {}, intent.destination or {}
    same_name = all(old.get(part) == new.get(part) for part in ("kind", "root", "template", "values"))
    return same_name and new.get("kind") in ("template", "directory")


def _supersede(db: sqlite3.Connection, number: int, new: JobRow) -> JobRow:
    """Note that the job ``number`` was sent again as ``new``."""
    db.execute("UPDATE jobs SET superseded_by = ? WHERE number = ?", (new.number, number))
    db.execute("UPDATE jobs SET resubmit_of = ? WHERE number = ?", (number, new.number))
    return row_of(db, new.number)


def _promise(db: sqlite3.Connection, number: int, paths: Sequence[str]) -> None:
    rows = [(to_json(path), number) for path in paths]
    db.executemany("INSERT OR IGNORE INTO promises (path, job) VALUES (?, ?)", rows)


def _check_places(db: sqlite3.Connection, paths: Sequence[str], besides: int | None) -> None:
    query = (
        "SELECT number, state = 'unknown' FROM promises JOIN jobs ON number = job"
        " WHERE path = ? AND job IS NOT ?"
    )
    found = [(path, db.execute(query, (to_json(path), besides)).fetchone()) for path in paths]
    taken = [(path, row) for path, row in found if row is not None]
    if taken:
        number, unknown = taken[0][1]
        raise PlacePromised((path for path, _ in taken), number, unknown=bool(unknown))


def _withdraw(db: sqlite3.Connection, token: str, now: float) -> None:
    """Undo an intent that was certainly not followed by a submit. The row stays: its number was given out."""
    condition = "state = 'submitting' AND token = ?"
    rows = db.execute(
        f"SELECT number FROM jobs INDEXED BY jobs_unsettled WHERE {IS_UNSETTLED} AND {condition}",  # noqa: S608
        (token,),
    ).fetchall()
    for (number,) in rows:
        db.execute("DELETE FROM promises WHERE job = ?", (number,))
        db.execute(
            "UPDATE jobs SET state = 'failed', charged = 'no', owner = NULL, claimed_at = NULL, "
            "updated_at = ? WHERE number = ?",
            (now, number),
        )


def _note_credits(db: sqlite3.Connection, value: float, base_url: str, now: float) -> None:
    if finite(value) is not None:
        db.execute(
            "INSERT OR REPLACE INTO facts (name, value, at) VALUES (?, ?, ?)",
            (f"credits {base_url}", repr(float(value)), now),
        )


def _count_anew(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM totals")
    db.execute("INSERT INTO totals SELECT base_url, count(*), total(cost) FROM jobs GROUP BY base_url")
