"""What a trace stores, and what a site says of what it does not have."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from limbeck.core.reparam import Law
from limbeck.core.trace import KEEP_ALL, KEEP_NOISE, KEEP_NOTHING, KEEP_VALUE, Kind, Site, keep_fields
from limbeck.errors import SiteError


@pytest.mark.parametrize("fields", [KEEP_NOTHING, KEEP_NOISE, KEEP_ALL])
def test_the_same_fields_of_every_kind(fields: int) -> None:
    assert {keep_fields(fields)("z", kind) for kind in Kind} == {fields}


def test_fields_of_some_kinds_only() -> None:
    keep = keep_fields(KEEP_VALUE, Kind.LATENT, Kind.TARGET)
    kept = {kind for kind in Kind if keep("z", kind) == KEEP_VALUE}
    assert kept == {Kind.LATENT, Kind.TARGET}
    assert {keep("z", kind) for kind in Kind} == {KEEP_VALUE, KEEP_NOTHING}


def test_what_was_not_kept_is_named() -> None:
    law, value = Normal(torch.zeros(2), 1.0), torch.zeros(2)
    whole, bare = Site("z[3]", Kind.LATENT, Law.NORMAL, law, value), Site("z[3]", Kind.LATENT, Law.NORMAL)
    assert whole.kept_distribution() is law
    assert whole.kept_value() is value
    with pytest.raises(SiteError, match=r"site 'z\[3\]': its distribution was not kept"):
        bare.kept_distribution()
    with pytest.raises(SiteError, match=r"site 'z\[3\]': its value was not kept"):
        bare.kept_value()
