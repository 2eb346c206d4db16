"""Both kinds of networks."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["mlp", "conv"])
def kind(request):
    return request.param
