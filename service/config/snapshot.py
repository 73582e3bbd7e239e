"""What one tenant has configured, as of one config_version: settings, aliases, price rules, budgets. Pure."""

import msgspec

from service.access.settings import TenantSettings
from service.budgets.matching import BudgetSet
from service.identity.aliases import AliasBook
from service.identity.tag_names import TagNames
from service.pricing.rules import NO_RULES, PricingRules


class TenantConfig(msgspec.Struct, frozen=True):
    """One consistent view of a tenant's configuration; a change anywhere in it raises `version`."""

    tenant_id: str
    epoch: int  # of the ledger it was read in: after a restore the same version may mean something else
    version: int
    enforcement: str  # enforce | shadow | off
    settings: TenantSettings
    aliases: AliasBook
    budgets: BudgetSet
    pricing_rules: PricingRules = NO_RULES
    # The version since which, as far as this process knows, aliases, price rules and settings are as they are.
    priced_since: int = 0

    @property
    def tag_names(self) -> tuple[TagNames, TagNames]:
        """Return the tags that something looks for: they stay when a call has too many."""
        return self.budgets.tag_names, self.pricing_rules.tag_names

    def prices_as(self, other: "TenantConfig") -> bool:
        """Tell whether another configuration names and prices every call alike."""
        return (
            self.pricing_rules is other.pricing_rules
            and self.aliases is other.aliases
            and self.settings == other.settings
        )
