"""TLS contexts for the sandbox and its clients: good ones, and one for everything that can be wrong with a certificate."""

import datetime as dt
import functools
import ssl
from pathlib import Path

import trustme

_HOST = "127.0.0.1"


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def trusting() -> ssl.SSLContext:
    """A client's context that trusts our authority alone."""
    context = ssl.create_default_context()
    _authority().configure_trust(context)
    return context


def authority_file(folder: Path) -> str:
    """Write our authority's certificate to a file, for SSL_CERT_FILE; return its name."""
    path = folder / "authority.pem"
    path.write_bytes(_authority().cert_pem.bytes())
    return str(path)


@functools.cache
def serving(what: str) -> ssl.SSLContext | None:
    """A server's context; None for a port without TLS."""
    if what == "plain_port":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    if what == "self_signed":
        # An authority's own certificate is signed by itself.
        own = trustme.CA()
        with trustme.Blob(own.private_key_pem.bytes() + own.cert_pem.bytes()).tempfile() as path:
            context.load_cert_chain(path)
        return context
    authority = trustme.CA() if what == "unknown_ca" else _authority()
    host = "other.example" if what == "wrong_host" else _HOST
    dates = {
        "expired": {"not_before": now - 3 * day, "not_after": now - day},
        "future": {"not_before": now + day, "not_after": now + 3 * day},
    }.get(what, {})
    authority.issue_cert(host, **dates).configure_cert(context)
    if what.startswith("client_certificate"):
        context.verify_mode = ssl.CERT_REQUIRED
        _authority().configure_trust(context)
    if what.endswith("_tls12"):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
