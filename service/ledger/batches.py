"""What every write of charges is made of: windows matched by a configuration, and the fence that holds it to that."""

from collections.abc import Sequence
from typing import Protocol

from service.db.pools import PostgresConnection
from service.kit.ids import new_id
from service.ledger.charge import ChargeDraft, MatchedBatch
from service.ledger.repository import Fence


class WindowMatcher(Protocol):
    """Finds the budget windows of charges, by the configuration in force."""

    async def match(
        self, drafts: Sequence[ChargeDraft], *, connection: PostgresConnection | None = None
    ) -> MatchedBatch:
        """Return the drafts with their windows, by the configuration known here, or read through the connection."""
        ...


def fences_of(matched: MatchedBatch) -> list[Fence]:
    """Return the configuration of each tenant of a batch, and an id for what the batch will owe to Redis."""
    versions = {draft.tenant_id: draft.config_version for draft in matched.charges}
    return [
        Fence(tenant_id=tenant_id, config_version=version, epoch=matched.epoch, outbox_id=new_id())
        for tenant_id, version in sorted(versions.items())
    ]
