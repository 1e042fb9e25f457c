"""Every failure around one create, as data: how it is made, and what the client must say.

A row tells what one attempt must end with. What a whole call must do (how often it sends, how many sessions there are
then) follows from the row by the rules in `expected`, which are written down here a second time on purpose: they are the
house's rules in a few lines, and share nothing with `kustom_hpp.retry`. Whether a session is made is not typed here: it
is the fault's own `commits`.
"""

from enum import StrEnum

from attrs import frozen

import kustom_hpp as hpp
from kustom_hpp import Delivery
from tests.support.faults import find_fault
from tests.support.ports import PORTS
from tests.support.proxy import PROXY_BEHAVIOURS

MAX_ATTEMPTS = 3
"""Of every call in the matrix."""


class Place(StrEnum):
    """Where a failure is made."""

    API = "api"
    """The sandbox plays a fault."""
    PORT = "port"
    """A port of its own that misbehaves."""
    PROXY = "proxy"
    """The API is called over http through a proxy that misbehaves."""
    TUNNEL = "tunnel"
    """The same over https: the proxy is asked to CONNECT."""
    TLS = "tls"
    """The sandbox serves https with another certificate; see certificates.py."""
    NAME = "name"
    """The host's name does not resolve."""


@frozen
class Ending:
    """What an attempt or a call ends with; a session has no error and no delivery of its own."""

    error: type[hpp.HPPError] | None
    delivery: Delivery | None


SESSION = Ending(None, None)
CONNECT = Ending(hpp.ConnectError, Delivery.NOT_SENT)
CERTIFICATE = Ending(hpp.CertificateError, Delivery.NOT_SENT)
LOST = Ending(hpp.LostResponseError, Delivery.UNKNOWN)
UNREADABLE = Ending(hpp.DecodeError, Delivery.ACCEPTED)
ODD = Ending(hpp.UnexpectedStatusError, Delivery.UNKNOWN)
SERVER = Ending(hpp.ServerError, Delivery.UNKNOWN)
THROTTLED = Ending(hpp.RateLimitError, Delivery.REJECTED)
REFUSED = Ending(hpp.ApiError, Delivery.REJECTED)
BAD_REQUEST = Ending(hpp.BadRequestError, Delivery.REJECTED)


@frozen(kw_only=True)
class Row:
    """One failure."""

    group: str
    told: str
    """How the sandbox, the port or the proxy is told; the sandbox's spelling may have parameters."""
    endings: tuple[Ending, ...]
    """What one attempt ends with; more than one only where the phase is a matter of timing."""
    place: Place = Place.API
    reaches: bool = True
    """Whether the server sees a POST: its head comes in whole."""
    silent: bool = False
    """Only the client's own clock ends it: such rows run with short timeouts, all others with generous ones."""
    hint_too_long: bool = False
    """The answer asks for a wait above the cap, so that the call is not sent again."""
    before: int = 0
    """Healthy creates on the same connection before it."""
    padding: int = 0
    """Bytes by which the request is made bigger."""

    @property
    def name(self) -> str:
        return self.told if self.place is Place.API else f"{self.place}:{self.told}"

    @property
    def processes_request(self) -> bool:
        """Whether the session is made, from the fault's own row; only a healthy way makes one elsewhere."""
        return find_fault(self.told).processes_request if self.place is Place.API else self.endings == (SESSION,)

    @property
    def heals(self) -> bool:
        """Whether it can happen once and be gone. A closed port stays closed."""
        return self.place in {Place.API, Place.PROXY, Place.TUNNEL} and self.told != "refused"


@frozen(kw_only=True)
class Expected:
    """What a call must come to. Ranges where the phase is a matter of timing."""

    endings: tuple[Ending, ...]
    attempts: range
    posts: range
    sessions: range


def sent_again(row: Row, ending: Ending, *, resend: bool) -> bool:
    """The house's rule: after NOT_SENT and after 429; where the caller chose so, after UNKNOWN too, odd statuses apart."""
    if ending in {SESSION, CERTIFICATE} or row.hint_too_long:
        return False
    if ending.delivery is Delivery.NOT_SENT or ending == THROTTLED:
        return True
    return resend and ending.delivery is Delivery.UNKNOWN and (ending != ODD or "408" in row.name)


def expected(row: Row, *, resend: bool, once: bool) -> Expected:
    """What a call must come to where every attempt meets the row, or only the first (`once`)."""
    again = [sent_again(row, ending, resend=resend) for ending in row.endings]
    endings, attempts = list(row.endings), []
    for ending, repeated in zip(row.endings, again, strict=True):
        attempts.append((2 if once else MAX_ATTEMPTS) if repeated else 1)
        if repeated and once:
            endings[endings.index(ending)] = SESSION
        elif repeated and ending.delivery is Delivery.UNKNOWN:
            endings[endings.index(ending)] = LOST  # an earlier attempt of the call was UNKNOWN
    low, high = min(attempts), max(attempts)
    if len(row.endings) > 1:
        low, high = 1, 2 if once else MAX_ATTEMPTS
    healthy = int(once and any(again))
    posts = [row.reaches * (count - healthy * (count > 1)) + healthy * (count > 1) for count in (low, high)]
    sessions = [
        row.processes_request * (count - healthy * (count > 1)) + healthy * (count > 1) for count in (low, high)
    ]
    return Expected(
        endings=tuple(endings),
        attempts=range(low, high + 1),
        posts=range(posts[0], posts[1] + 1),
        sessions=range(sessions[0], sessions[1] + 1),
    )


def _rows(group: str, endings: Ending | tuple[Ending, ...], names: str, **more: object) -> list[Row]:
    given = (endings,) if isinstance(endings, Ending) else endings
    return [Row(group=group, told=name, endings=given, **more) for name in names.split()]  # type: ignore[arg-type]


def _statuses(ending: Ending, *statuses: int, form: str = "status_{}") -> list[Row]:
    return _rows("statuses", ending, " ".join(form.format(status) for status in statuses))


_SENT_OR_NOT = (LOST, CONNECT)

ROWS: tuple[Row, ...] = (
    # ------------------------------------------------------------------------------- connections, cut and silent
    *_rows("connections", _SENT_OR_NOT, "accept_rst accept_close", reaches=False),
    *_rows("connections", LOST, "server_not_reading", reaches=False, silent=True, padding=900_000),
    *_rows("connections", LOST, "close_on_head reset_on_head close_before_processing close_after_request"),
    *_rows("connections", LOST, "reset_after_request"),
    *_rows("connections", LOST, "keepalive_race_rst", before=1),
    *_rows("connections", REFUSED, "early_413", padding=900_000),
    *_rows("silence", LOST, "hang hang_uncommitted status_199 interim_flood drip_head", silent=True),
    *_rows("silence", UNREADABLE, "headers_then_hang half_body_hang drip_body", silent=True),
    *_rows("connections", UNREADABLE, "half_body_close half_body_reset"),
    *_rows("connections", SESSION, "interim_103 slow_head keepalive_close double_answer double_answer~late=0"),
    # ---------------------------------------------------------------------------------------- framing of the answer
    *_rows("framing", LOST, "half_status_line half_headers garbage http09 bad_status_line http2_preface header_ctl"),
    *_rows("framing", LOST, "big_header many_headers two_lengths length_and_chunked length_negative chunk_huge"),
    *_rows("framing", LOST, "length_too_short chunk_garbage"),
    *_rows("framing", UNREADABLE, "length_too_long chunk_cut gzip_corrupt gzip_lie gzip_cut gzip_double"),
    *_rows("framing", UNREADABLE, "unknown_encoding"),
    *_rows("framing", ODD, "upgrade_101"),
    # ------------------------------------------------------------------------------------------ bodies of a good 201
    *_rows("bodies", UNREADABLE, "body_empty body_null body_not_object body_html body_deep body_bigint body_cut_json"),
    *_rows("bodies", UNREADABLE, "not_utf8 big_body gzip_bomb deflate_bomb"),
    # Its URLs identify the session; an in-store session has no page.
    *_rows("bodies", SESSION, "no_session_id null_session_id wrong_type_session_id"),
    *_rows("bodies", SESSION, "no_redirect_url wrong_type_redirect_url"),
    *_rows("bodies", SESSION, "bom charset_rot13 charset_zlib ct_text_plain wrong_types nulls new_fields"),
    *_rows("bodies", SESSION, "bad_expires_at url_other_host url_evil url_crlf set_cookie"),
    # ------------------------------------------------------------------------------------------------------ statuses
    *_statuses(BAD_REQUEST, 400),
    *_statuses(Ending(hpp.AuthenticationError, Delivery.REJECTED), 401),
    *_statuses(Ending(hpp.PermissionDeniedError, Delivery.REJECTED), 403),
    *_statuses(Ending(hpp.NotFoundError, Delivery.REJECTED), 404),
    *_statuses(REFUSED, 402, 405, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 425, 426, 428),
    *_statuses(REFUSED, 431, 451),
    *_statuses(ODD, 408, 304, 305, 306, 600, 999),
    *_statuses(SERVER, 500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599),
    *_statuses(ODD, 408, form="status_{}~commit=1"),
    *_statuses(SERVER, 500, 502, 503, 504, form="status_{}~commit=1"),
    *_statuses(SESSION, 200, 201, 202, 299),
    *_statuses(UNREADABLE, 204, 205),
    *_statuses(ODD, 300, 301, 302, 303, form="redirect_{}"),
    *_statuses(ODD, 300, 301, 302, 303, form="redirect_{}_same"),
    *_statuses(ODD, 300, 301, 302, form="redirect_{}~commit=1"),
    *_statuses(REFUSED, 307, 308, form="redirect_{}"),
    *_statuses(REFUSED, 307, 308, form="redirect_{}_same"),
    # ------------------------------------------------------------------------------------------------- waits to keep
    *_rows("waits", THROTTLED, "status_429 retry_after_seconds retry_after_date retry_after_past retry_after_naive"),
    *_rows("waits", THROTTLED, "retry_after_overflow retry_after_garbage retry_after_empty retry_after_negative"),
    *_rows("waits", THROTTLED, "retry_after_digits retry_after_superscript retry_after_nan retry_after_inf"),
    *_rows("waits", THROTTLED, "retry_after_exponent retry_after_control ratelimit"),
    *_rows("waits", THROTTLED, "retry_after_huge", hint_too_long=True),
    *_rows("waits", SERVER, "status_503_retry_after status_503_retry_after~commit=1"),
    *_rows("waits", SERVER, "retry_after_huge~status=503", hint_too_long=True),
    # ------------------------------------------------------------------------------------------------- error bodies
    *_rows("errors", BAD_REQUEST, "error_empty error_text error_html error_cut error_list error_null error_deep"),
    *_rows("errors", BAD_REQUEST, "error_not_utf8 error_wrong_types error_message_singular status_evil_error"),
    *_rows("errors", BAD_REQUEST, "echo_auth error_huge error_bomb~status=400"),
    *_rows("errors", SERVER, "error_bomb error_huge~status=500 echo_auth~status=500 error_html~status=502"),
    # ---------------------------------------------------------------------------------------------- before the send
    *_rows("ports", CONNECT, "refuse tls_reset tls_eof tls_old tls_plain", place=Place.PORT, reaches=False),
    *_rows("ports", CONNECT, "connect_hang tls_hang tls_slow", place=Place.PORT, reaches=False, silent=True),
    *_rows("ports", CONNECT, "unknown", place=Place.NAME, reaches=False),
    *_rows("ports", CONNECT, "silent", place=Place.NAME, reaches=False, silent=True),
    *_rows("tls", SESSION, "good", place=Place.TLS),
    *_rows("tls", CERTIFICATE, "expired future wrong_host self_signed unknown_ca", place=Place.TLS, reaches=False),
    *_rows("tls", CONNECT, "plain_port client_certificate_tls12", place=Place.TLS, reaches=False),
    # With TLS 1.3 the server's no comes after the handshake, when the request has left: nobody can tell.
    *_rows("tls", LOST, "client_certificate", place=Place.TLS, reaches=False),
    # ----------------------------------------------------------------------------------------------------- proxies
    *_rows("proxies", SESSION, "ok", place=Place.PROXY),
    *_rows("proxies", REFUSED, "status_407", place=Place.PROXY, reaches=False),
    *_rows("proxies", Ending(hpp.PermissionDeniedError, Delivery.REJECTED), "status_403", place=Place.PROXY,
           reaches=False),
    *_rows("proxies", SERVER, "status_502", place=Place.PROXY, reaches=False),
    *_rows("proxies", LOST, "close reset garbage", place=Place.PROXY, reaches=False),
    *_rows("proxies", LOST, "hang", place=Place.PROXY, reaches=False, silent=True),
    *_rows("proxies", CONNECT, "refused", place=Place.PROXY, reaches=False),
    *_rows("proxies", SESSION, "ok", place=Place.TUNNEL),
    *_rows("proxies", CONNECT, "status_407 status_403 status_502 close reset garbage close_tunnel reset_tunnel",
           place=Place.TUNNEL, reaches=False),
    *_rows("proxies", CONNECT, "hang", place=Place.TUNNEL, reaches=False, silent=True),
    *_rows("proxies", CONNECT, "refused", place=Place.TUNNEL, reaches=False),
)  # fmt: skip

GROUPS = tuple(dict.fromkeys(row.group for row in ROWS))

# What never gets as far as a socket: each of these settings is refused when the client is made.
SETTINGS: dict[str, dict[str, object]] = {
    "no scheme": {"base_url": "api.example"},
    "another scheme": {"base_url": "ftp://127.0.0.1"},
    "a port that is none": {"base_url": "http://127.0.0.1:99999"},
    "a port in other digits": {"base_url": "http://127.0.0.1:٨٠٨٠"},
    "CR LF in a header": {"headers": {"X-Shop": "a\r\nX-Evil: b"}},
    "NUL in a header": {"headers": {"X-Shop": "a\x00b"}},
    "DEL in a header": {"headers": {"X-Shop": "a\x7fb"}},
    "a line break in the key": {"api_key": "kco_test_api_a\nb"},
    "a line break in the app info": {"app_info": "Shop/1\r\nX-Evil: b"},
}


def names_of(place: Place) -> set[str]:
    """The faults of a place that have a row, without parameters."""
    return {row.told.partition("~")[0] for row in ROWS if row.place is place}


def known_to(place: Place) -> set[str]:
    """The faults that a place can play, and the few that a test makes without it."""
    if place is Place.PORT:
        return set(PORTS)
    tunnel_only = {name for name in PROXY_BEHAVIOURS if name.endswith("_tunnel")}
    return {"refused", *PROXY_BEHAVIOURS} - (tunnel_only if place is Place.PROXY else set())
