"""What one tenant has configured, as of one config_version: settings, aliases, budgets. Pure; for both paths."""

import msgspec

from service.access.settings import TenantSettings
from service.budgets.matching import BudgetSet
from service.identity.aliases import AliasBook


class TenantConfig(msgspec.Struct, frozen=True):
    """One consistent view of a tenant's configuration; a change anywhere in it raises `version`."""

    tenant_id: str
    epoch: int  # of the ledger it was read in: after a restore the same version may mean something else
    version: int
    enforcement: str  # enforce | shadow | off
    settings: TenantSettings
    aliases: AliasBook
    budgets: BudgetSet
