"""A fault that sends a whole response keeps to the connection's contract (RFC 9112, section 9): it closes when it must."""

import pytest

from kustom_hpp.sandbox import FAULTS, Fault, Sandbox
from kustom_hpp.sandbox.faults import FAULT_GROUPS
from tests.sandbox.support import Wire, request

RESPONSES = (
    *(fault_type.name for group in ("Statuses", "Bodies") for fault_type in FAULT_GROUPS[group]),
    "slow_head", "drip_body", "gzip_corrupt", "keepalive_close", "early_413",
)  # fmt: skip
ENDS_ANYWAY = {"early_413", "keepalive_close"}
"""Faults whose point is that the connection ends."""
FAST = {"seconds": 0.02, "interval": 0.0005, "after": 0.02}

MATRIX = {
    # version, request header, response header
    "HTTP/1.1 keep-alive": ("HTTP/1.1", "", None),
    "HTTP/1.1 close": ("HTTP/1.1", "Connection: close\r\n", "close"),
    "HTTP/1.0": ("HTTP/1.0", "", "close"),
    "HTTP/1.0 keep-alive": ("HTTP/1.0", "Connection: keep-alive\r\n", "keep-alive"),
}


QUICK = {"status_503", "redirect_302", "new_fields", "slow_head", "early_413"}
CASES = [
    pytest.param(name, contract, marks=() if name in QUICK or contract == "HTTP/1.1 close" else pytest.mark.slow)
    for name in RESPONSES
    for contract in MATRIX
]


def _create(sandbox: Sandbox, version: str, header: str) -> bytes:
    return request(sandbox).replace(b"HTTP/1.1\r\n", f"{version}\r\n{header}".encode(), 1)


@pytest.mark.parametrize(("name", "contract"), CASES)
async def test_the_connection_ends_or_serves_a_second_request(sandbox: Sandbox, name: str, contract: str) -> None:
    version, header, announced = MATRIX[contract]
    fault_type = FAULTS[name]
    fault = Fault.of(fault_type, **{key: value for key, value in FAST.items() if key in fault_type.defaults})
    sandbox.fault(fault, times=1)
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(_create(sandbox, version, header))
        reply = await wire.answer()
        assert reply.status == sandbox.record.requests[0].status
        assert reply.header("connection") == ("close" if name == "early_413" else announced)
        if announced != "close" and name not in ENDS_ANYWAY:
            wire.writer.write(_create(sandbox, version, header))
            assert (await wire.answer()).status == 201
            assert [seen.connection for seen in sandbox.record.requests] == [1, 1]
        else:
            assert (await wire.rest()).end == "fin"


def test_every_fault_with_a_whole_response_is_in_the_matrix() -> None:
    """What is left out cuts the response, delays it for good, or has none."""
    assert set(FAULTS) - set(RESPONSES) == {
        "accept_rst", "accept_close", "close_on_head", "reset_on_head", "keepalive_race_rst", "close_before_processing",
        "close_after_request", "reset_after_request", "half_body_close", "half_body_reset", "hang", "hang_uncommitted",
        "headers_then_hang", "half_body_hang", "half_status_line", "half_headers", "garbage", "length_too_long",
    }  # fmt: skip
