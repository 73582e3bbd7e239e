"""Why a model component is free, reported or unpriced: stable codes for charges, reports and tests. Pure.

A code may carry what it is about after a colon: `unmeasured:web_search`.
"""

from typing import Final

# free; or the `unbilled_reason` of the event
CACHE_HIT: Final = "cache_hit"  # answered from the gateway's own cache
FAILED: Final = "failed"  # a failed call that produced nothing and cost nothing
EXPLICIT_ZERO: Final = "explicit_zero"  # the price list, or the operator on the deployment, says zero

# reported (the gateway's own figure is used) or, when there is none, unpriced
NO_PRICE: Final = "no_price"  # none of the model's names is in the price book
NO_MODEL: Final = "no_model"  # no field names the model that served
NO_RATES: Final = "no_rates"  # the entry states no price at all
NO_RATE: Final = "no_rate"  # the entry has no rate for a kind of token or unit the call used
NO_USAGE: Final = "no_usage"  # a success without any tokens
UNMEASURED: Final = "unmeasured"  # the call used, or is priced by, something whose quantity is not known
OTHER_CUSTOM_PRICE: Final = "other_custom_price"  # the deployment is priced in a form that is not read
