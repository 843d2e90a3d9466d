"""Reading archives within bounds."""

from __future__ import annotations

import io

import pytest

from three_regime.system.archives import ArchiveError, _Bounded


def test_a_stream_may_have_exactly_its_limit() -> None:
    assert _Bounded(io.BytesIO(b"1234"), 4).read() == b"1234"
    with pytest.raises(ArchiveError, match="unpacks to more than 3 bytes"):
        _Bounded(io.BytesIO(b"1234"), 3).read()
