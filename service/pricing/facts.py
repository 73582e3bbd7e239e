"""What a call is priced from: kept beside its charge, so that the same call can be priced anew. Pure values."""

import msgspec

from service.identity.models import ModelClaims
from service.pricing.usage import PricingBasis, ReportedCost, Usage


class CallFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything an event said that its price depends on, beside the time and the dimensions, which have columns.

    Encoded as JSON it is the column `facts` of `charge`; a field that is at its default is left out.
    """

    claims: ModelClaims = ModelClaims()
    usage: Usage = Usage()
    basis: PricingBasis = PricingBasis()
    reported: ReportedCost = ReportedCost()
