"""Imports a LiteLLM proxy: examines it, and writes what the examination found, in an order that can be interrupted.

Keys, budgets, increases, then opening charges. Each step is done in portions and does nothing a second time, so that an
import that was stopped is simply run again; one snapshot of the source serves all of it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Final, Literal, assert_never

import msgspec

from service.audit.repository import record
from service.budgets.apply import ApplyOrder, BudgetApplier
from service.budgets.apply_plan import count_steps
from service.budgets.budget import Budget, BudgetDraft
from service.budgets.period import LifetimePeriod
from service.budgets.period_document import period_document
from service.budgets.repository import load_budgets, read_clock
from service.budgets.seeding import BudgetSeeder, ConfigChanges
from service.db.pools import PostgresPool, connected
from service.identity.aliases import AliasBook
from service.identity.call import call_names, call_names_of_charge
from service.identity.registry import load_aliases
from service.imports import repository
from service.imports.examination import BudgetLine, Examination, ImportOrder, ImportOutcome, LogShare
from service.imports.gateway_config import gateway_config, merged
from service.imports.increase_writing import IncreaseWriter, compare_increases
from service.imports.key_writing import KeyWriter
from service.imports.mapping import plan_import
from service.imports.plan import SLUG_PREFIX, Plan, PlannedBudget, Remark
from service.imports.repository import ImportLock
from service.imports.residuals import NO_MODELS, Residuals, find_residuals
from service.imports.source_checks import check_is_litellm, check_may_prune
from service.imports.source_queries import Source
from service.imports.spend import SpendTally, before, earliest_start
from service.imports.spend_groups import GroupOpenings
from service.kit.money import EXACT, ZERO, format_amount
from service.ledger.charge import Conflict, Duplicate, Recorded, Unstorable
from service.ledger.openings import Opening, opening_charge
from service.ledger.service import LedgerRecorder

Stage = Literal["reading", "ledger", "logs", "keys", "budgets", "charges"]
# (stage, how many more, of how many if that is known)
Progress = Callable[[Stage, int, int | None], None]

_NO_RESIDUALS: Final = Residuals((), ())
# Events are taken, and event ids kept, this far back.
_LONGEST_BACK: Final = timedelta(days=400)
_RECORDED_AT_ONCE: Final = 2_000
# Enough that batches follow each other while what was recorded before is published.
_RECORDINGS_AT_ONCE: Final = 4


class LiteLLMImporter:
    """Examines and writes."""

    def __init__(
        self, pool: PostgresPool, configs: ConfigChanges, recorder: LedgerRecorder, seeder: BudgetSeeder
    ) -> None:
        self._pool = pool
        self._configs = configs
        self._recorder = recorder
        self._seeder = seeder
        self._keys = KeyWriter(pool)

    async def examine(self, source: Source, config_file: object, order: ImportOrder, progress: Progress) -> Examination:
        """Return what importing the source would write, and why anything is not as it is there."""
        entities = await source.read_entities(lambda _, rows: progress("reading", rows, None))
        check_is_litellm(entities)
        document = merged(config_file, await source.read_config())
        now, budgets, aliases = await self._read_present(order.tenant_id)
        plan = plan_import(entities, gateway_config(document), now)
        present = {budget.slug: budget for budget in budgets}
        plan = _keeping_terms(plan, present)
        orphans = _orphans(plan, present)
        if order.prunes:
            check_may_prune(entities, [planned.draft.slug for planned in plan.budgets], orphans)
        due_increases, over_increases = compare_increases(plan.increases, present)
        applier = BudgetApplier(self._pool, self._configs)
        examination = Examination(
            now=now,
            plan=plan,
            steps=await applier.plan(_apply_order(order, plan)),
            due_keys=await self._keys.find_due(order.tenant_id, plan.keys),
            due_increases=due_increases,
            over_increases=over_increases,
            logs=None,
            recorded={},
            residuals=(),
            lines=[],
            remarks=[*plan.remarks, *_remarks_of(orphans, prunes=order.prunes)],
        )
        tally = SpendTally(plan, now)
        if order.takes_spend:
            await self._examine_spend(source, order, examination, tally, aliases, progress)
        examination.lines = [_line(planned, tally) for planned in plan.budgets]
        return examination

    async def write(
        self, source: Source, order: ImportOrder, examination: Examination, progress: Progress, lock: ImportLock
    ) -> ImportOutcome:
        """Write what was examined, under the tenant's lock of imports; `source` is the same snapshot.

        Raises StateConflict when the lock is lost: then another import may have begun, and nothing more is written.
        """
        await lock.assert_held()
        outcome = ImportOutcome(keys=len(examination.due_keys))
        plan, tenant_id = examination.plan, order.tenant_id
        total = len(examination.due_keys)
        await self._keys.write(
            tenant_id, examination.due_keys, order.author, lambda rows: progress("keys", rows, total)
        )
        due = sum(step.verb != "unchanged" for step in examination.steps)
        taken = await BudgetApplier(self._pool, self._configs).apply(
            _apply_order(order, plan), examination.steps, lambda rows: progress("budgets", rows, due)
        )
        outcome.budgets = {verb: count for verb, count in count_steps(taken).items() if verb != "unchanged"}
        await self._write_increases(order, plan, outcome)
        while await self._seeder.step(tenant_id) == "advanced":
            pass
        if examination.logs is not None:
            try:
                await self._record_openings(source, order, examination, outcome, progress, lock)
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from failed
        await self._enter(order, examination, outcome)
        return outcome

    async def _read_present(self, tenant_id: str) -> tuple[datetime, list[Budget], AliasBook]:
        async with connected(self._pool) as connection, connection.transaction():
            now = await read_clock(connection)
            budgets = await load_budgets(connection, tenant_id)
            aliases = await load_aliases(connection, tenant_id, AliasBook())
        return now, budgets, aliases

    async def _examine_spend(
        self,
        source: Source,
        order: ImportOrder,
        examination: Examination,
        tally: SpendTally,
        aliases: AliasBook,
        progress: Progress,
    ) -> None:
        """Add up what is recorded, what the logs bring, and what LiteLLM's own sums say beyond them."""
        plan, now = examination.plan, examination.now
        start = max(earliest_start([one.draft.period for one in plan.budgets], now), now - _LONGEST_BACK)
        logs_from = start if order.since is None else max(start, order.since)
        end = await self._examine_ledger(order, examination, tally, (start, logs_from), progress)
        logs = LogShare(start=logs_from, end=max(end, logs_from))
        facts = await source.read_log_facts(logs.start, logs.end)
        if facts is not None:
            logs.rows, logs.oldest = facts.rows, facts.oldest
            for count, what in ((facts.negative, "a negative spend"), (facts.not_finite, "a spend that is no amount")):
                if count:
                    detail = f"{count:,} rows have {what}; they are left out."
                    examination.remarks.append(Remark("source", "LiteLLM_SpendLogs", detail))
            await self._examine_logs(source, examination, tally, logs, aliases, progress)
        else:
            detail = "There are no spend logs: budgets start at the sums LiteLLM keeps itself."
            examination.remarks.append(Remark("source", "LiteLLM_SpendLogs", detail))
        examination.logs = logs
        accounts = [account for planned in plan.budgets for account in planned.accounts]
        found = find_residuals(accounts, tally, start=start, since=order.since, now=now)
        examination.residuals = found.openings
        examination.remarks += found.remarks

    async def _examine_ledger(
        self,
        order: ImportOrder,
        examination: Examination,
        tally: SpendTally,
        starts: tuple[datetime, datetime],
        progress: Progress,
    ) -> datetime:
        """Add up the charges there are; return until when logs are to be taken: events tell of what came later."""
        start, logs_from = starts
        plan = examination.plan
        has_lifetimes = any(isinstance(one.draft.period, LifetimePeriod) for one in plan.budgets)
        async with connected(self._pool) as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute("SET LOCAL statement_timeout = 0")
            examination.recorded = await repository.read_recorded(connection, order.tenant_id, logs_from)
            first_usage = await repository.find_first_usage(connection, order.tenant_id, logs_from)
            charges_from = None if has_lifetimes else before(start)
            async for charges in repository.stream_charges(connection, order.tenant_id, charges_from):
                for charge in charges:
                    names = call_names_of_charge(charge)
                    tally.add(names, charge.effective_at, charge.enforced_usd, is_usage=charge.is_usage)
                progress("ledger", len(charges), None)
        if order.until is not None:
            return min(order.until, examination.now)
        if first_usage is not None and first_usage < examination.now:
            detail = (
                f"Logs are taken of calls before {first_usage.isoformat()}: there the first event is recorded."
                " --until says otherwise."
            )
            examination.remarks.append(Remark("spend", "spend logs", detail))
            return first_usage
        return examination.now

    async def _examine_logs(
        self,
        source: Source,
        examination: Examination,
        tally: SpendTally,
        logs: LogShare,
        aliases: AliasBook,
        progress: Progress,
    ) -> None:
        openings = _group_openings(examination, aliases)
        async for groups in source.stream_groups(logs.start, logs.end):
            for group in groups:
                logs.groups += 1
                logs.total_usd = EXACT.add(logs.total_usd, group.amount_usd)
                opening = openings.opening_of(group)
                if opening is not None:
                    logs.new_groups += 1
                    logs.new_usd = EXACT.add(logs.new_usd, opening.amount_usd)
                    names = call_names(opening.dimensions, opening.models or NO_MODELS)
                    tally.add(names, opening.spent_at, opening.amount_usd)
            progress("logs", len(groups), None)

    async def _write_increases(self, order: ImportOrder, plan: Plan, outcome: ImportOutcome) -> None:
        _, budgets, _ = await self._read_present(order.tenant_id)
        due, over = compare_increases(plan.increases, {budget.slug: budget for budget in budgets})
        await IncreaseWriter(self._configs).write(order.tenant_id, due, over, order.author)
        outcome.increases = len(due)

    async def _record_openings(
        self,
        source: Source,
        order: ImportOrder,
        examination: Examination,
        outcome: ImportOutcome,
        progress: Progress,
        lock: ImportLock,
    ) -> None:
        logs = examination.logs
        assert logs is not None
        _, _, aliases = await self._read_present(order.tenant_id)
        total = logs.new_groups + len(examination.residuals)
        async with asyncio.TaskGroup() as recordings:
            turns = asyncio.Semaphore(_RECORDINGS_AT_ONCE)

            async def record_portion(portion: Sequence[Opening]) -> None:
                try:
                    await self._record(order, portion, outcome)
                finally:
                    turns.release()
                progress("charges", len(portion), total)

            async for portion in self._portions(source, examination, logs, aliases):
                await turns.acquire()
                # What a group grew by is recorded again by an import that has not seen it recorded.
                await lock.assert_held()
                recordings.create_task(record_portion(portion))

    async def _portions(
        self, source: Source, examination: Examination, logs: LogShare, aliases: AliasBook
    ) -> AsyncIterator[Sequence[Opening]]:
        """Yield all that is to be recorded, the same as it was examined."""
        if logs.rows is not None and logs.new_groups:
            openings = _group_openings(examination, aliases)
            async for groups in source.stream_groups(logs.start, logs.end):
                portion = [opening for group in groups if (opening := openings.opening_of(group)) is not None]
                if portion:
                    yield portion
        for start in range(0, len(examination.residuals), _RECORDED_AT_ONCE):
            yield examination.residuals[start : start + _RECORDED_AT_ONCE]

    async def _record(self, order: ImportOrder, openings: Sequence[Opening], outcome: ImportOutcome) -> None:
        async with connected(self._pool) as connection:
            now = await read_clock(connection)
        drafts = [opening_charge(order.tenant_id, opening, received_at=now) for opening in openings]
        for result in await self._recorder.record(drafts):
            match result:
                case Recorded(charge=charge):
                    outcome.openings_recorded += 1
                    outcome.recorded_usd = EXACT.add(outcome.recorded_usd, charge.cost_usd)
                case Duplicate():
                    outcome.openings_known += 1
                case Conflict() | Unstorable():
                    outcome.openings_refused += 1
                case _:
                    assert_never(result)

    async def _enter(self, order: ImportOrder, examination: Examination, outcome: ImportOutcome) -> None:
        """Enter the import as a whole into the audit trail, if it wrote anything."""
        if not any((outcome.keys, *outcome.budgets.values(), outcome.increases, outcome.openings_recorded)):
            return
        written = msgspec.structs.asdict(outcome) | {"recorded_usd": format_amount(outcome.recorded_usd)}
        logs = examination.logs
        span = None if logs is None else {"from": logs.start.isoformat(), "to": logs.end.isoformat()}
        async with connected(self._pool) as connection:
            await record(
                connection,
                order.tenant_id,
                changed_by=order.author,
                action="litellm.imported",
                subject_type="tenant",
                subject_id=order.tenant_id,
                before=None,
                after={**written, "spend_logs": span},
            )


def _group_openings(examination: Examination, aliases: AliasBook) -> GroupOpenings:
    keys = {key.api_key: key for key in examination.plan.keys}
    return GroupOpenings(keys, aliases, examination.recorded)


def _apply_order(order: ImportOrder, plan: Plan) -> ApplyOrder:
    return ApplyOrder(
        tenant_id=order.tenant_id,
        drafts=[planned.draft for planned in plan.budgets],
        prunes=order.prunes,
        slug_prefix=SLUG_PREFIX,
        author=order.author,
    )


def _keeping_terms(plan: Plan, present: Mapping[str, Budget]) -> Plan:
    """Return the plan with the terms LiteLLM has nothing like as operators have set them here."""
    budgets = [
        msgspec.structs.replace(planned, draft=_kept(planned.draft, present.get(planned.draft.slug)))
        for planned in plan.budgets
    ]
    return msgspec.structs.replace(plan, budgets=tuple(budgets))


def _kept(draft: BudgetDraft, present: Budget | None) -> BudgetDraft:
    if present is None:
        return draft
    stated = draft.terms
    terms = msgspec.structs.replace(
        present.terms,
        name=stated.name,
        limit_usd=stated.limit_usd,
        thresholds=stated.thresholds or present.terms.thresholds,
    )
    return msgspec.structs.replace(draft, terms=terms)


def _orphans(plan: Plan, present: Mapping[str, Budget]) -> list[str]:
    """Return what earlier imports made that LiteLLM has no more, by slug."""
    named = {planned.draft.slug for planned in plan.budgets}
    return sorted(slug for slug in present if slug.startswith(SLUG_PREFIX) and slug not in named)


def _remarks_of(orphans: Sequence[str], *, prunes: bool) -> list[Remark]:
    what = "it is archived" if prunes else "it stays; --prune archives it"
    return [Remark("decision", f"budget {slug}", f"LiteLLM does not have it any more: {what}.") for slug in orphans]


def _line(planned: PlannedBudget, tally: SpendTally) -> BudgetLine:
    """Return both figures of a budget; of one with a counter per value, those of the values LiteLLM keeps a sum of."""
    accounts = planned.accounts
    has_counters = any(condition.kind == "each" for condition in planned.draft.match)
    if has_counters and accounts:
        ours = _sum([tally.of_account(account).spent_usd for account in accounts])
    else:
        ours = tally.of_budget(planned.draft.slug).spent_usd
    return BudgetLine(
        slug=planned.draft.slug,
        kind=planned.kind,
        subject=planned.subject,
        limit_usd=planned.draft.terms.limit_usd,
        period=period_document(planned.draft.period),
        litellm_usd=_sum([account.spend_usd for account in accounts]) if accounts else None,
        starts_at_usd=ours,
        counters=len(accounts),
    )


def _sum(amounts: Sequence[Decimal]) -> Decimal:
    return reduce(EXACT.add, amounts, ZERO)
