"""What LiteLLM's own sums say beyond its spend logs: logs may be switched off, pruned, or behind. Pure.

The same calls are in many sums: what one of them brought up is attributed to the others, as far as it can be theirs and
makes no sum more than LiteLLM says. Only the rest is brought up anew, so that nothing counts twice in what is wider.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from service.budgets.period import LifetimePeriod, shown_window
from service.identity.call import CallNames, call_names
from service.identity.dimensions import Dimensions
from service.identity.models import ModelIdentity
from service.imports.drafting import Rank
from service.imports.pieces import Piece, Pieces
from service.imports.plan import Account, Remark, is_rounding
from service.imports.spend import IMPORT_SOURCE, SpendTally, before, digest_of, in_order
from service.kit.money import EXACT, format_amount
from service.ledger.openings import Opening

NO_MODELS: Final = ModelIdentity(
    requested_model=None, requested_canonical=None, deployment=None, deployment_id=None, served_model=None,
    provider=None, is_router=False, price_candidates=(), provenance={},
)  # fmt: skip
_REASON: Final = "spend of LiteLLM that no log of it explains"


class Residuals(msgspec.Struct, frozen=True):
    """What to bring up, and what cannot be."""

    openings: tuple[Opening, ...]
    remarks: tuple[Remark, ...]


def find_residuals(
    accounts: Sequence[Account], tally: SpendTally, *, start: datetime, since: datetime | None, now: datetime
) -> Residuals:
    """Return what the sums of accounts say beyond the tally, which it is added to.

    `start`: of the earliest window that ends; `since`: spend from before is not wanted.
    """
    search = _Search(tally, start, since, now)
    for account in in_order(accounts, now):
        search.settle(account)
    return Residuals(tuple(_opening(piece) for piece in search.pieces), search.remarks())


class _Search:
    def __init__(self, tally: SpendTally, start: datetime, since: datetime | None, now: datetime) -> None:
        self._tally = tally
        self._start = start
        self._since = since
        self._now = now
        self.pieces = Pieces()
        self._said: list[tuple[Account, str]] = []

    def settle(self, account: Account) -> None:
        """Bring an account up to what LiteLLM says of it, or say why it is not."""
        figures = self._tally.of_account(account)
        if is_rounding(account.spend_usd, figures.spent_usd):
            return
        missing = EXACT.subtract(account.spend_usd, figures.spent_usd)
        if missing < 0 and account.basis == "comparable":
            self._say(account, _why_more(account))
        if missing <= 0 or not self._may_be_brought_up(account, figures.spent_usd, has_usage=figures.has_usage):
            return
        if account.rank == Rank.UNBOOKABLE:
            self._say(account, "no charge can be of all its models at once; its logs alone count")
            return
        at = self._booked_at(account)
        missing = self._attribute(account, missing, at)
        if missing > 0:
            self._add(Piece(account, account.dimensions, at, missing))

    def _may_be_brought_up(self, account: Account, spent: Decimal, *, has_usage: bool) -> bool:
        if has_usage:
            self._say(account, "events of its calls are recorded already, so that only logs are taken")
            return False
        window = shown_window(account.period, self._now)
        if self._since is not None and window.start < self._since:
            return False
        if account.basis == "stale":
            self._say(account, "its reset is overdue in LiteLLM, whose figure is of the window before")
            return False
        if account.basis in {"shifted", "unknown"}:
            which = "LiteLLM's window began at another time" if account.basis == "shifted" else "no reset is stored"
            if spent:
                self._say(account, f"{which}; the logs of the present window count")
                return False
            self._say(account, f"{which}, and there are no logs; its whole figure is taken")
        return True

    def _booked_at(self, account: Account) -> datetime:
        """Return the start of the account's window; for a lifetime, a time before every window that ends."""
        if isinstance(account.period, LifetimePeriod):
            return before(self._start)
        return shown_window(account.period, self._now).start

    def _attribute(self, account: Account, missing: Decimal, since: datetime) -> Decimal:
        """Say of pieces of the account's window that they are its, too; return what is missing then."""
        for number, piece, both in self.pieces.find_compatible(account.dimensions, since):
            if missing <= 0:
                break
            taken = min(missing, piece.amount_usd, self._head_room(piece, both))
            if taken <= 0:
                continue
            self.pieces.remove(number)
            self._tally.add(_call(piece.dimensions), piece.at, taken.copy_negate())
            self._add(piece._replace(dimensions=both, amount_usd=taken))
            rest = EXACT.subtract(piece.amount_usd, taken)
            if rest > 0:
                self.pieces.add(piece._replace(amount_usd=rest))
            missing = EXACT.subtract(missing, taken)
        return missing

    def _head_room(self, piece: Piece, both: Dimensions) -> Decimal:
        """Return how much of a piece may change hands before some sum is more than LiteLLM says."""
        present = self._tally.accounts_of(_call(piece.dimensions), piece.at)
        rooms = [
            EXACT.subtract(account.spend_usd, figures.spent_usd)
            for account, figures in self._tally.accounts_of(_call(both), piece.at).items()
            if account not in present
        ]
        return min(rooms, default=piece.amount_usd)

    def _add(self, piece: Piece) -> None:
        self.pieces.add(piece)
        self._tally.add(_call(piece.dimensions), piece.at, piece.amount_usd)

    def _say(self, account: Account, why: str) -> None:
        self._said.append((account, why))

    def remarks(self) -> tuple[Remark, ...]:
        """Return what was said, once all is settled: with the figures budgets start at."""
        return tuple(Remark("spend", account.subject, self._detail(account, why)) for account, why in self._said)

    def _detail(self, account: Account, why: str) -> str:
        theirs, known = format_amount(account.spend_usd), self._tally.of_account(account)
        start = self._tally.of_counter(account)
        if start is known:
            return f"LiteLLM says {theirs} USD, it starts at {format_amount(start.spent_usd)}: {why}."
        return (
            f"LiteLLM says {theirs} USD, {format_amount(known.spent_usd)} are known: {why}."
            f" Of these its budget counts {format_amount(start.spent_usd)}, and starts there."
        )


def _why_more(account: Account) -> str:
    if account.rank == Rank.PROJECT:
        return "its logs say more (some versions of LiteLLM did not add up projects)"
    return "its logs, or what narrower sums say, come to more (a reset, a changed duration or a lost update in LiteLLM)"


def _call(dimensions: Dimensions) -> CallNames:
    return call_names(dimensions, NO_MODELS)


def _opening(piece: Piece) -> Opening:
    account = piece.account
    name = digest_of(account.subject, msgspec.structs.asdict(piece.dimensions), piece.at.isoformat())
    sums = f"{format_amount(account.spend_usd)}:{format_amount(piece.amount_usd)}"
    return Opening(
        source=IMPORT_SOURCE,
        event_id=f"sum:{name}:{sums}",
        spent_at=piece.at,
        amount_usd=piece.amount_usd,
        reason=f"{_REASON}: {account.subject}"[:500],
        dimensions=piece.dimensions,
    )
