"""Who a bearer token stands for, what a token may be made of, and who may make it. Pure values and rules.

A token is `tg_` and 256 random bits. Only its SHA-256 is kept: that much entropy needs no salt and no slow hash.
Nothing compares token texts, so no timing tells how much of a guess was right: digests are looked up, and nobody can
choose the digest of a token they do not have.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Literal, get_args
from uuid import UUID

import msgspec

from service.errors import Forbidden, InvalidInput
from service.identity.dimensions import DIMENSION_NAMES, PEOPLE, clean_value, is_plain_key
from service.kit.ids import new_secret
from service.kit.instants import bounded_instant
from service.kit.sources import is_reserved_source
from service.kit.text import stripped_text

TOKEN_PREFIX = "tg_"  # noqa: S105  (no secret)

Role = Literal["ingest", "check", "read", "admin"]
OnUnresolved = Literal["allow", "deny"]

ROLES: tuple[Role, ...] = get_args(Role)
SOURCE = "source"
PINNABLE = (*PEOPLE, SOURCE)
TRUSTABLE_HEADERS = tuple(
    f"x-tallygate-{name}"
    for name in ("team", "user", "organization", "end-user", "tags", "model", "input-tokens", "max-output-tokens")
)

MAX_NAME_LENGTH = 200
MAX_VALUE_LENGTH = 256
MAX_SCOPE_VALUES = 1_000

# Nobody can send anything shorter or longer as a token: what is outside needs no look-up.
MIN_TOKEN_LENGTH = 16
MAX_TOKEN_LENGTH = 512


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a request speaks for, as its token says; nothing in the request can change it.

    `scope` narrows what `read` shows: AND over dimensions, OR over the values of one. `pinned` and `source` overwrite
    what an event or a check says of itself.
    """

    tenant_id: str
    token_id: UUID
    name: str
    roles: frozenset[str]
    is_operator: bool = False
    scope: dict[str, list[str]] = {}
    pinned: dict[str, str] = {}
    source: str | None = None
    trusted_headers: frozenset[str] = frozenset()
    reserve: bool = False
    on_unresolved: OnUnresolved = "allow"
    expires_at: datetime | None = None

    @property
    def author(self) -> str:
        """How the audit trail names who changed something: by the token's name, which others may have, and its id."""
        return f"{self.name} ({self.token_id})"


class TokenTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a new token shall be; `pinned` may hold `source` beside dimensions."""

    name: str
    roles: tuple[Role, ...]
    is_operator: bool = False
    is_bootstrap: bool = False
    scope: dict[str, list[str]] = {}
    pinned: dict[str, str] = {}
    trusted_headers: tuple[str, ...] = ()
    reserve: bool = False
    on_unresolved: OnUnresolved = "allow"
    expires_at: datetime | None = None


def new_token_text() -> str:
    """Return the text of a new token: to be shown once and never kept."""
    return new_secret(TOKEN_PREFIX)


def token_digest(token: str | bytes) -> str:
    """Return the SHA-256, in hex, under which a token is stored and looked up."""
    return sha256(token.encode() if isinstance(token, str) else token).hexdigest()


def checked_terms(terms: TokenTerms, *, now: datetime) -> TokenTerms:
    """Return the terms in their canonical form. Raises InvalidInput with the field that cannot be taken."""
    _check_name(terms.name)
    if not terms.roles:
        raise InvalidInput(f"A token needs at least one role: {', '.join(ROLES)}.", field="roles")
    if terms.scope and "admin" in terms.roles:
        raise InvalidInput("A token with the role `admin` cannot be narrowed: leave out one of both.", field="scope")
    _check_scope(terms.scope)
    _check_pinned(terms.pinned)
    expires_at = None if terms.expires_at is None else bounded_instant(terms.expires_at, "expires_at")
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("The token would have expired already.", field="expires_at")
    return msgspec.structs.replace(
        terms,
        roles=tuple(role for role in ROLES if role in terms.roles),
        scope={name: [clean_value(name, value) or value for value in values] for name, values in terms.scope.items()},
        pinned={name: clean_value(name, value) or value for name, value in terms.pinned.items()},
        trusted_headers=_checked_headers(terms.trusted_headers),
        expires_at=expires_at,
    )


def check_grant(terms: TokenTerms, creator: Caller) -> None:
    """Refuse a token that could do, or outlive, what its creator cannot. Raises Forbidden with the field.

    An admin gives any role of the tenant, also those the own token lacks: one who administers need not ingest or read.
    """
    missing = [role for role in terms.roles if role not in creator.roles]
    if missing and "admin" not in creator.roles:
        raise Forbidden(f"Your token lacks the role {missing[0]!r} and cannot give it away.", field="roles")
    if terms.is_operator and not creator.is_operator:
        raise Forbidden("Your token is no operator and cannot make one.", field="is_operator")
    inherited = dict(creator.pinned)
    if creator.source is not None:
        inherited[SOURCE] = creator.source
    for name, value in inherited.items():
        if terms.pinned.get(name) != value:
            raise Forbidden("What your token has pinned, a token made with it must have, too.", field=f"pinned.{name}")
    if creator.expires_at is not None and (terms.expires_at is None or terms.expires_at > creator.expires_at):
        raise Forbidden("A token cannot outlive the one it is made with.", field="expires_at")


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidInput(f"A token is named in 1 to {MAX_NAME_LENGTH} printable characters.", field="name")


def _check_scope(scope: Mapping[str, list[str]]) -> None:
    for name, values in scope.items():
        field = f"scope.{name}"
        if name not in DIMENSION_NAMES:
            raise InvalidInput(f"No such dimension; there are {', '.join(DIMENSION_NAMES)}.", field="scope")
        if not values:
            raise InvalidInput("A scope without a value would show nothing: name values or leave it out.", field=field)
        for index, value in enumerate(values):
            _check_value(name, value, f"{field}[{index}]")
    if sum(map(len, scope.values())) > MAX_SCOPE_VALUES:
        raise InvalidInput(f"A scope holds at most {MAX_SCOPE_VALUES} values.", field="scope")


def _check_pinned(pinned: Mapping[str, str]) -> None:
    for name, value in pinned.items():
        if name not in PINNABLE:
            raise InvalidInput(f"Cannot be pinned; these can: {', '.join(PINNABLE)}.", field="pinned")
        _check_value(name, value, f"pinned.{name}")
        if name == SOURCE and is_reserved_source(value):
            raise InvalidInput("The ledger's own entries come from this source.", field=f"pinned.{name}")


def _check_value(name: str, value: str, field: str) -> None:
    if not stripped_text(value) or len(value) > MAX_VALUE_LENGTH or "\x00" in value:
        raise InvalidInput(f"A value has 1 to {MAX_VALUE_LENGTH} characters, not only blanks, and no NUL.", field=field)
    if name == "api_key" and is_plain_key(stripped_text(value)):
        # A plain key must never come to lie in a table.
        raise InvalidInput("Keys are named by their SHA-256 in hex, never in plain.", field=field)


def _checked_headers(headers: tuple[str, ...]) -> tuple[str, ...]:
    names = [header.lower() for header in headers]
    for index, name in enumerate(names):
        if name not in TRUSTABLE_HEADERS:
            detail = f"Not an identity header; there are {', '.join(TRUSTABLE_HEADERS)}."
            raise InvalidInput(detail, field=f"trusted_headers[{index}]")
    return tuple(sorted(set(names)))
