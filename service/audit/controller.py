"""`/v1/audit`: who changed what, and when. It is read, and nothing else."""

from typing import Annotated, Literal
from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.audit.repository import INSTALLATION, AuditFilter
from service.audit.schemas import AuditEntryList, entry_view
from service.audit.service import AuditTrail
from service.errors import Forbidden, InvalidInput
from service.kit.instants import checked_instant
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.problems import problem_responses

_MAX_TEXT = 1_000

_SubjectType = Annotated[
    str | None, QueryParameter(description="What was changed: `price_override`, `fee`, `alias`, `token` …")
]
_SubjectId = Annotated[str | None, QueryParameter(description="Which one was changed.")]
_Action = Annotated[str | None, QueryParameter(description="What was done: `fee.created`, `token.revoked` …")]
_ChangedBy = Annotated[str | None, QueryParameter(description="By whom, exactly as entries say it.")]
_From = Annotated[str | None, QueryParameter(name="from", description="Changes from this instant on (RFC 3339).")]
_To = Annotated[str | None, QueryParameter(name="to", description="Changes before this instant (RFC 3339).")]
_Trail = Annotated[
    Literal["tenant", "installation"],
    QueryParameter(name="scope", description="`installation`: what concerns all tenants; operators only."),
]
_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]


class AuditController(Controller):
    """The audit trail of the caller's tenant."""

    path = "/v1/audit"
    tags = ("audit",)

    @get(
        guards=[requires("admin")],
        operation_id="list_audit_entries",
        summary="List administrative changes, newest first",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def list_entries(
        self,
        caller: NamedDependency[Caller],
        audit_trail: NamedDependency[AuditTrail],
        subject_type: _SubjectType = None,
        subject_id: _SubjectId = None,
        action: _Action = None,
        changed_by: _ChangedBy = None,
        start: _From = None,
        end: _To = None,
        trail: _Trail = "tenant",
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> AuditEntryList:
        """Return a page of entries; all conditions hold."""
        if trail == "installation" and not caller.is_operator:
            raise Forbidden("Only an operator's token reads the trail of the whole installation.", field="scope")
        tenant_id = INSTALLATION if trail == "installation" else caller.tenant_id
        size = page_limit(limit)
        chosen = AuditFilter(
            subject_type=_checked(subject_type, "subject_type"),
            subject_id=_checked(subject_id, "subject_id"),
            action=_checked(action, "action"),
            changed_by=_checked(changed_by, "changed_by"),
            start=None if start is None else checked_instant(start, "from"),
            end=None if end is None else checked_instant(end, "to"),
        )
        before = None if cursor is None else _decode_position(cursor)
        rows = await audit_trail.list_page(tenant_id, chosen, before_entry=before, limit=size + 1)
        next_cursor = encode_cursor([str(rows[size - 1].entry_id)]) if len(rows) > size else None
        return AuditEntryList([entry_view(row) for row in rows[:size]], next_cursor)


def _checked(text: str | None, field: str) -> str | None:
    if text is not None and (len(text) > _MAX_TEXT or "\x00" in text):
        raise InvalidInput(f"This takes at most {_MAX_TEXT} characters, and no NUL.", field=field)
    return text


def _decode_position(cursor: str) -> UUID:
    (entry_id,) = decode_cursor(cursor, length=1)
    try:
        return UUID(entry_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
