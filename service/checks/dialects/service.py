"""Decides what gateways ask in their own dialects: by the same core as any check, and by the terms of their token.

Guarantees: every key and every model of a request passed, or it is denied; with `reserve` each call holds for itself,
also when end clients give many calls one id; what a tenant does not enforce stops nobody.
"""

import asyncio
from typing import Literal

import msgspec

from service.access.settings import TenantSettings
from service.access.tokens import Caller
from service.checks import metrics
from service.checks.dialects.question import MOST_KEYS, MOST_MODELS, Question
from service.checks.outcome import Denied, Outcome
from service.checks.repeats import repeat_names
from service.checks.request import CheckRequest
from service.checks.service import CheckService
from service.config.service import ConfigStore
from service.errors import StateConflict, TallygateError
from service.kit.ids import new_id

RefusalCode = Literal["unresolved", "ambiguous"]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The call must not be made though no budget denies it: nobody knows who makes it, or for which model.

    `names`: the dimensions that are not known, or what was said more than once.
    """

    code: RefusalCode
    names: tuple[str, ...]
    settings: TenantSettings


Verdict = Outcome | Refused


class DialectService:
    """Answers the questions of gateways."""

    def __init__(self, checks: CheckService, configs: ConfigStore) -> None:
        self._checks = checks
        self._configs = configs

    async def decide(self, caller: Caller, question: Question) -> Verdict:
        """Decide one call. Raises Unavailable when not even the configuration is known."""
        first, *others = question.requests()
        outcomes = await asyncio.gather(*[self._checks.check(caller, request) for request in others])
        denied = next((outcome for outcome in outcomes if isinstance(outcome, Denied)), None)
        if denied is not None:
            return denied
        outcome = await self._check_and_hold(caller, first, question.call_id)
        if isinstance(outcome, Denied):
            return outcome
        refused = self._refusal(caller, question, [outcome, *outcomes])
        if refused is not None and outcome.hold is not None:
            await self._give_back(caller, outcome.hold.reservation_id)
        return refused or outcome

    async def _check_and_hold(self, caller: Caller, request: CheckRequest, call_id: str | None) -> Outcome:
        """Check, and with `reserve` hold under the call's id, or the next name of it that is not taken."""
        if not caller.reserve:
            return await self._checks.check(caller, request)
        occasion = new_id().hex
        for name in repeat_names(call_id) if call_id else ():
            try:
                return await self._checks.check(caller, _held(request, name, occasion))
            except StateConflict:
                continue  # another call holds under this name
        return await self._checks.check(caller, _held(request, f"{call_id}#{occasion}" if call_id else None, occasion))

    def _refusal(self, caller: Caller, question: Question, outcomes: list[Outcome]) -> Refused | None:
        explanations = [outcome.explanation for outcome in outcomes]
        unresolved = dict.fromkeys(name for explanation in explanations for name in explanation.unresolved)
        if unresolved:
            metrics.UNRESOLVED.inc()
        config = self._configs.find(caller.tenant_id)
        if config is not None and config.enforcement != "enforce":
            return None
        settings = explanations[0].settings
        if ambiguous := _ambiguous(question):
            return Refused(code="ambiguous", names=ambiguous, settings=settings)
        if unresolved and caller.on_unresolved == "deny":
            return Refused(code="unresolved", names=tuple(unresolved), settings=settings)
        return None

    async def _give_back(self, caller: Caller, reservation_id: str) -> None:
        try:
            await self._checks.void(caller, reservation_id)
        except TallygateError:
            return  # it ends by its time


def _held(request: CheckRequest, request_id: str | None, occasion: str) -> CheckRequest:
    return msgspec.structs.replace(request, request_id=request_id, wants_hold=True, occasion=occasion)


def _ambiguous(question: Question) -> tuple[str, ...]:
    excess = [
        name
        for name, values, most in (("api_key", question.keys, MOST_KEYS), ("model", question.models, MOST_MODELS))
        if len(values) > most
    ]
    return (*question.ambiguous, *excess)
