"""What an exception around an attempt means: every class of aiohttp, before and after the request began to leave."""

import copy
import errno
import inspect
import socket
import ssl
from collections.abc import Callable
from unittest import mock

import aiohttp
import pytest
from aiohttp import client_exceptions
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp._messages import Delivery, SendMarker
from kustom_hpp.transport import connector
from kustom_hpp.transport.connector import PRE_SEND_EXCEPTIONS, NoConnectionError
from kustom_hpp.transport.exception_mapping import OneShotPayload, SecondWriteError, describe_exception, map_exception

SECRET = "Basic c2VjcmV0"  # every exception of aiohttp that can hold a request's headers holds this one
KEY = ConnectionKey("api.kustom.co", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
INFO = RequestInfo(
    URL("https://api.kustom.co/x"), "POST", CIMultiDictProxy(CIMultiDict(Authorization=SECRET)), URL("https://x/x")
)
REFUSED = OSError(errno.ECONNREFUSED, "refused")
BAD_CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
BAD_CERTIFICATE.verify_message = "certificate has expired"

# Not in every release of aiohttp that we take.
UploadAbortedError = getattr(client_exceptions, "UploadAbortedError", aiohttp.ClientError)

NOT_SENT, LOST, CERTIFICATE = hpp.ConnectError, hpp.LostResponseError, hpp.CertificateError

# Each exception: (what it means while nothing was sent, whether it is a timeout, its description without the phase)
TABLE = [
    # Known to come before the first byte.
    (aiohttp.ClientConnectorError(KEY, REFUSED), NOT_SENT, False, "ClientConnectorError, errno 111"),
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "x")), NOT_SENT, False,
     "ClientConnectorDNSError, errno -2"),
    (aiohttp.ClientProxyConnectionError(KEY, REFUSED), NOT_SENT, False, "ClientProxyConnectionError, errno 111"),
    (client_exceptions.UnixClientConnectorError("/x", KEY, REFUSED), NOT_SENT, False, "UnixClientConnectorError, errno 111"),
    (aiohttp.ClientSSLError(KEY, REFUSED), NOT_SENT, False, "ClientSSLError, errno 111"),
    (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "x")), NOT_SENT, False, "ClientConnectorSSLError, errno 1"),
    (aiohttp.ClientConnectorSSLError(KEY, OSError()), NOT_SENT, False, "ClientConnectorSSLError"),
    (aiohttp.ClientConnectorCertificateError(KEY, BAD_CERTIFICATE), CERTIFICATE, False,
     "ClientConnectorCertificateError, errno 1"),
    (aiohttp.ConnectionTimeoutError(SECRET), NOT_SENT, True, "ConnectionTimeoutError"),
    (aiohttp.ClientHttpProxyError(INFO, (), status=407, message=SECRET), NOT_SENT, False,
     "ClientHttpProxyError, status 407 from the proxy"),
    (aiohttp.ServerFingerprintMismatch(b"a", b"b", "h", 1), NOT_SENT, False, "ServerFingerprintMismatch"),
    (aiohttp.InvalidURL("x", "y"), NOT_SENT, False, "InvalidURL"),
    (client_exceptions.InvalidUrlClientError("x", "y"), NOT_SENT, False, "InvalidUrlClientError"),
    (NoConnectionError("our own words"), NOT_SENT, False, "NoConnectionError, our own words"),
    # Not known to: they come before and after it, so that nobody may trust them.
    (aiohttp.ClientError(SECRET), LOST, False, "ClientError"),
    (aiohttp.ClientConnectionError(SECRET), LOST, False, "ClientConnectionError"),
    (aiohttp.ClientConnectionResetError(SECRET), LOST, False, "ClientConnectionResetError"),
    (aiohttp.ClientOSError(errno.ECONNRESET, "x"), LOST, False, "ClientOSError, errno 104"),
    (aiohttp.ServerConnectionError(SECRET), LOST, False, "ServerConnectionError"),
    (aiohttp.ServerDisconnectedError(SECRET), LOST, False, "ServerDisconnectedError"),
    (aiohttp.ServerTimeoutError(SECRET), LOST, True, "ServerTimeoutError"),
    (aiohttp.SocketTimeoutError(SECRET), LOST, True, "SocketTimeoutError"),
    (aiohttp.ClientPayloadError(SECRET), LOST, False, "ClientPayloadError"),
    (UploadAbortedError(SECRET), LOST, False, UploadAbortedError.__name__),
    # aiohttp makes this status up for an answer that it cannot parse: it was never the API's.
    (aiohttp.ClientResponseError(INFO, (), status=400, message=SECRET), LOST, False, "ClientResponseError"),
    (aiohttp.ContentTypeError(INFO, (), status=200), LOST, False, "ContentTypeError"),
    (aiohttp.TooManyRedirects(INFO, (), status=302), LOST, False, "TooManyRedirects"),
    (aiohttp.WSServerHandshakeError(INFO, (), status=400), LOST, False, "WSServerHandshakeError"),
    (client_exceptions.RedirectClientError(SECRET), LOST, False, "RedirectClientError"),
    (client_exceptions.NonHttpUrlClientError(SECRET), LOST, False, "NonHttpUrlClientError"),
    (client_exceptions.InvalidUrlRedirectClientError("x", "y"), NOT_SENT, False, "InvalidUrlRedirectClientError"),
    (client_exceptions.NonHttpUrlRedirectClientError("x", "y"), LOST, False, "NonHttpUrlRedirectClientError"),
    # Of Python itself.
    (TimeoutError(SECRET), LOST, True, "TimeoutError"),
    (OSError(errno.EPIPE, "x"), LOST, False, "BrokenPipeError, errno 32"),
    (RuntimeError(SECRET), LOST, False, "RuntimeError"),
    (ValueError(SECRET), LOST, False, "ValueError"),
    (SecondWriteError(SECRET), LOST, False, "SecondWriteError"),
]  # fmt: skip
rows = pytest.mark.parametrize(("error", "unsent", "timeout", "text"), TABLE, ids=lambda value: type(value).__name__)


def test_the_table_has_every_class_of_aiohttps_client():
    every = {
        kind
        for _, kind in inspect.getmembers(client_exceptions, inspect.isclass)
        if issubclass(kind, aiohttp.ClientError)
    }
    assert every - {type(row[0]) for row in TABLE} == set()


def test_what_counts_as_before_sending():
    assert set(PRE_SEND_EXCEPTIONS) == {
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.ClientHttpProxyError,
        aiohttp.ServerFingerprintMismatch,
        aiohttp.InvalidURL,
        NoConnectionError,
    }
    # A trap for whoever writes "except ClientOSError" for "it may have been sent".
    assert issubclass(aiohttp.ClientConnectorError, aiohttp.ClientOSError)
    assert connector.PRE_SEND_EXCEPTIONS is PRE_SEND_EXCEPTIONS


@rows
def test_unsent(error, unsent, timeout, text):
    ours = map_exception(error, sent=False, expired=None, host="api.kustom.co")
    assert type(ours) is unsent
    assert ours.timed_out is timeout
    assert ours.delivery is (Delivery.UNKNOWN if unsent is LOST else Delivery.NOT_SENT)
    # Not known to come before sending: then the phase is not claimed either.
    assert ours.cause == f"{text}, {'after sending began' if unsent is LOST else 'while connecting'}"


@rows
def test_sent(error, unsent, timeout, text):
    ours = map_exception(error, sent=True, expired=None, host="api.kustom.co")
    assert type(ours) is LOST
    assert (ours.timed_out, ours.delivery) == (timeout, Delivery.UNKNOWN)
    assert ours.cause == f"{text}, after sending began"


@rows
@pytest.mark.parametrize("clock", ["connect timeout", "deadline"])
def test_unsent_and_out_of_time(error, unsent, timeout, text, clock):
    ours = map_exception(error, sent=False, expired=clock, host="api.kustom.co")
    assert type(ours) is NOT_SENT
    assert (ours.timed_out, ours.delivery, ours.cause) == (True, Delivery.NOT_SENT, f"{clock} while connecting")
    assert str(ours) == f"no connection to api.kustom.co ({clock} while connecting): nothing was sent"


@rows
@pytest.mark.parametrize("clock", ["read timeout", "deadline"])
def test_sent_and_out_of_time(error, unsent, timeout, text, clock):
    ours = map_exception(error, sent=True, expired=clock, host="api.kustom.co")
    assert type(ours) is LOST
    assert (ours.timed_out, ours.delivery) == (True, Delivery.UNKNOWN)
    assert ours.cause == f"{clock} while waiting for the response"


@rows
@pytest.mark.parametrize("sent", [False, True])
def test_nothing_of_the_exception_but_its_class_and_number_is_told(error, unsent, timeout, text, sent):
    ours = map_exception(error, sent=sent, expired=None, host="api.kustom.co")
    assert SECRET not in str(ours) + repr(ours) + repr(vars(ours))
    assert "api.kustom.co" in str(ours)
    assert (ours.__cause__, ours.__context__) == (None, None)
    # Whoever reads only the text knows what to do.
    assert ("nothing was sent" in str(ours)) is (ours.delivery is Delivery.NOT_SENT)
    assert ("Do not retry" in str(ours)) is (ours.delivery is Delivery.UNKNOWN)


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (BAD_CERTIFICATE, "certificate has expired"),
        (ssl.CertificateError("x"), "SSLCertVerificationError"),
        (ValueError(SECRET), "ValueError"),
    ],
)
def test_a_certificate_error_says_why_and_what_to_do(why, told):
    ours = map_exception(aiohttp.ClientConnectorCertificateError(KEY, why), sent=False, expired=None, host="h.example")
    assert str(ours) == (
        f"h.example presented an invalid certificate ({told}): nothing was sent. Check base_url, the clock "
        "and the trusted authorities (ssl=)"
    )


def test_the_other_texts():
    refused = aiohttp.ClientConnectorError(KEY, REFUSED)
    assert str(map_exception(refused, sent=False, expired=None, host="h.example")) == (
        "no connection to h.example (ClientConnectorError, errno 111, while connecting): nothing was sent"
    )
    assert str(map_exception(refused, sent=True, expired=None, host="h.example")) == (
        "the response of h.example was lost (ClientConnectorError, errno 111, after sending began): the API may have "
        "processed the request. Do not retry; create a new order and session"
    )


def odd(**attributes):
    kind = type("_OddError", (Exception,), attributes)
    return kind(SECRET)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (odd(), "OddError, here"),
        (odd(errno=5), "OddError, errno 5, here"),
        (odd(errno="E5"), "OddError, here"),
        # A status is told only where it is a proxy's: elsewhere aiohttp makes it up.
        (odd(status=400), "OddError, here"),
        (aiohttp.ClientHttpProxyError(INFO, (), status=502), "ClientHttpProxyError, status 502 from the proxy, here"),
    ],
)
def test_describe(error, expected):
    assert describe_exception(error, "here") == expected


class Wire:
    """What aiohttp writes a body to."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    async def write(self, data: bytes) -> None:
        self.events.append(f"{len(data)} bytes")


def body_of(
    data: bytes, mark: SendMarker, events: list[str], may_send: Callable[[], bool] | None = None
) -> OneShotPayload:
    """A body whose events are told in order: what the mark says at the beginning of each phase, and what is written."""
    clock = mock.Mock()
    clock.restart.side_effect = lambda seconds: events.append(f"phase of {seconds:g} s, sent {mark.sent}")
    return OneShotPayload(data, mark, clock, 35.0, may_send)


PHASE = "phase of 35 s, sent True"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, [PHASE, "0 bytes"]),
        (10, [PHASE, "10 bytes"]),
        (1 << 16, [PHASE, "65536 bytes"]),
        # Beyond what a socket's buffer takes at once the writing may wait: the answer's time begins after it.
        ((1 << 16) + 1, [PHASE, "65537 bytes", PHASE]),
    ],
)
@pytest.mark.parametrize("through", ["write", "write_with_length"])
async def test_the_mark_is_set_before_the_first_byte(size, expected, through):
    events, mark = [], SendMarker()
    body = body_of(b"x" * size, mark, events)
    assert mark.sent is False
    await (body.write(Wire(events)) if through == "write" else body.write_with_length(Wire(events), size))
    assert events == expected
    assert body.size == size


async def test_a_body_that_may_not_be_sent_writes_nothing():
    events, mark = [], SendMarker()
    with pytest.raises(RuntimeError, match=r"^may_send returned False$"):
        await body_of(b"x", mark, events, lambda: False).write(Wire(events))
    assert (events, mark.sent, mark.refused) == ([], False, True)


async def test_a_body_that_may_be_sent_is_written():
    events, mark = [], SendMarker()
    await body_of(b"x", mark, events, lambda: True).write(Wire(events))
    assert (events, mark.sent, mark.refused) == ([PHASE, "1 bytes"], True, False)


@pytest.mark.parametrize("through", ["write", "write_with_length"])
async def test_a_body_is_written_once(through):
    events, mark = [], SendMarker()
    body = body_of(b"body", mark, events)
    await body.write_with_length(Wire(events), 4)
    with pytest.raises(SecondWriteError, match="a request is sent once"):
        await (body.write(Wire(events)) if through == "write" else body.write_with_length(Wire(events), 4))
    assert events == [PHASE, "4 bytes"]
    assert mark.sent is True


@pytest.mark.parametrize(("when", "phases"), [("before", 0), ("meanwhile", 1)])
async def test_a_settled_body_moves_no_clock(when, phases):
    # The attempt is over, by a timeout say, and aiohttp still writes: the mark must tell, the clock must not move.
    events, mark = [], SendMarker()
    body = body_of(b"x" * 100_000, mark, events)

    class SettledMeanwhile(Wire):
        async def write(self, data: bytes) -> None:
            body.detach()
            await super().write(data)

    if when == "before":
        body.detach()
    await body.write_with_length(SettledMeanwhile(events), None)
    assert events == [PHASE] * phases + ["100000 bytes"]
    assert mark.sent is True


def test_a_copy_of_a_body_is_itself():
    # Whatever records a request for a test copies it, and its clock hangs on an event loop.
    body = body_of(b"body", SendMarker(), [])
    assert copy.deepcopy({"data": body})["data"] is body
