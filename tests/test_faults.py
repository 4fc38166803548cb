"""The short form of `make faults`: nothing is lost."""

from __future__ import annotations

import pytest

from tests.faults.__main__ import kinds, tried
from tests.faults.trial import ImpossibleError, Kind

KINDS = kinds()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_nothing_is_lost(kind: Kind) -> None:
    try:
        ends, lost = tried(kind, kind.SHORT, seed=1)
    except ImpossibleError as error:
        pytest.skip(str(error))
    assert not lost, "\n".join(lost)
    assert ends["survived"] == kind.SHORT
