"""Names of the sources of events: one is the ledger's own. Pure."""

from typing import Final

from service.kit.text import stripped_text

# Under it the ledger files what it makes itself (reversals, corrections), by ids of its own.
LEDGER_SOURCE: Final = "tallygate"


def is_reserved_source(source: str) -> bool:
    """Tell whether no gateway may send under the name, however it is written."""
    return stripped_text(source).casefold() == LEDGER_SOURCE
