"""What a person may type for an address is understood or refused in one line, and no secret is repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.remote.address import check_endpoint, parse_address


@pytest.mark.parametrize(
    ("understand", "text"),
    [
        (parse_address, "s3://[x/y"),
        (parse_address, "s3://key:hunter2@[x/y"),
        (parse_address, "ssh://me:hunter2@host\N{FULLWIDTH SOLIDUS}x/y"),
        (check_endpoint, "https://[x"),
        (check_endpoint, "https://s3.lab.example:99999"),
        (check_endpoint, "https://me:hunter2@s3.lab.example:port"),
    ],
)
def test_what_is_no_address_is_refused_in_one_line(understand: Callable[[str], Any], text: str) -> None:
    with pytest.raises(UserError) as refused:
        understand(text)
    assert "hunter2" not in str(refused.value)
    assert "is not the address of a" in refused.value.problem
    assert refused.value.mend.startswith("write ")
