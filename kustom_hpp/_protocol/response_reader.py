"""Reading of HTTP responses: a model, or the error that says what is known.

A body may have any shape: nothing here trusts it.
"""

import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from kustom_hpp._messages import CallInfo, HttpResponse
from kustom_hpp._protocol.codec import codec
from kustom_hpp._protocol.operations import Operation
from kustom_hpp._protocol.request_builder import CallInput, SessionRef
from kustom_hpp._protocol.response_headers import (
    MAX_CORRELATION_ID,
    correlation_id,
    redirect_origin,
    retry_after_seconds,
)
from kustom_hpp._redaction import MIN_SECRET_LENGTH, Secret, redact_body, redact_text, secrets_in_api_url
from kustom_hpp.config import Settings
from kustom_hpp.errors import (
    ApiError,
    AuthenticationError,
    DecodeError,
    UnexpectedStatusError,
    clean_text,
    error_for_status,
)

MAX_ERROR_BODY = 64 * 1024
"""Bytes of a response's body that an error contains."""
_MAX_MESSAGES = 50
_MAX_MESSAGES_SHOWN = 5
_SESSION_ID = rb'"session_id"\s*:\s*"([A-Za-z0-9._~-]{1,64})"'
_API_URL_OF_SESSION = r"[^?#]*/sessions/(?!\.+[/?#]|\.+\Z)([A-Za-z0-9._~-]{1,64})(?:/distribution)?/?(?:[?#].*)?"


@frozen(kw_only=True, slots=False)
class NoContent:
    """A 2xx response of an operation whose body does not matter."""

    info: CallInfo = field(default=CallInfo(), eq=False)


def read_response(settings: Settings, call: CallInput, response: HttpResponse) -> Any:
    """Return the response's model, or a `NoContent`.

    Args:
        settings: the client's. Its secrets and those of the call must not appear in an error.
        call: what the caller asked for.
        response: what the transport returned.

    Raises:
        ApiError: the status is not 2xx. The class says what is known.
        DecodeError: the status is 2xx, but the body is unreadable or about another session.

    """
    operation, session = call.operation, call.session
    if not 200 <= response.status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
        raise _api_error(settings, operation, response, _secrets(settings, call))
    model = operation.response_model
    if model is None:
        return NoContent()
    if response.body_error is None:
        try:
            value = _decode(model, response.body, session)
        except ValueError as error:
            reason = f"its body is {error}"
        else:
            if session is None or value.session_id.lower() == session.session_id.lower():
                return value
            reason = "it is about another session than the requested one"
    else:
        reason = f"its body is incomplete: {response.body_error}"
    raise _decode_error(operation, response, reason, _secrets(settings, call))


def attach_call_info(value: Any, info: CallInfo) -> Any:
    """Set how the call went on a newly read model.

    Implementation note: in place. Nobody has seen the value yet, and a copy would cost more than reading the response.
    """
    object.__setattr__(value, "info", info)
    return value


def _decode(model: type[Any], body: bytes, session: SessionRef | None) -> Any:
    plain = codec().load_json(body)
    if isinstance(plain, dict):
        # The API's reference makes every field optional. A read knows its session; a create's URLs contain the id.
        session_id = plain.get("session_id")
        if session is not None and not session_id:
            plain["session_id"] = session.session_id
        elif (
            session is None
            and not (session_id and isinstance(session_id, str))
            and (found := _session_id_in_urls(plain))
        ):
            plain["session_id"] = found
    return codec().structure_response(plain, model)


def _session_id_in_urls(plain: Mapping[str, Any]) -> str | None:
    """Return the id in the API URLs of a created session; None if there is none."""
    for name in ("session_url", "distribution_url"):
        url = plain.get(name)
        if isinstance(url, str) and (match := re.fullmatch(_API_URL_OF_SESSION, url)):
            return match[1]
    return None


def _decode_error(operation: Operation, response: HttpResponse, reason: str, secrets: list[Secret]) -> DecodeError:
    advice = operation.unreadable_response_advice or operation.unknown_outcome_advice
    body = redact_body(response.body, secrets)[:MAX_ERROR_BODY] if operation.unreadable_body_in_error else b""
    match = re.search(_SESSION_ID, body)
    return DecodeError(
        f"{operation.name} returned {response.status}, but {reason}: {advice}",
        status=response.status,
        body=body,
        session_id=match[1].decode() if match else None,
        correlation_id=redact_text(correlation_id(response.headers), secrets) or None,
        # A body that is too long was not cut off by the network: the next response would be as long.
        cause=None if response.body_too_long else response.body_error,
    )


def _api_error(settings: Settings, operation: Operation, response: HttpResponse, secrets: list[Secret]) -> ApiError:
    body = redact_body(response.body, secrets)[:MAX_ERROR_BODY]
    content = _error_content(body)
    code = content.get("error_code")
    code = clean_text(redact_text(code, secrets), MAX_CORRELATION_ID) if isinstance(code, str) else None
    messages = tuple(clean_text(redact_text(message, secrets)) for message in _messages(content)[:_MAX_MESSAGES])
    identity = content.get("correlation_id")
    if not isinstance(identity, str) or not identity:
        identity = correlation_id(response.headers)
    identity = redact_text(identity, secrets) or None
    error_class = error_for_status(response.status)
    text = f"{operation.name} returned {response.status}" + (f" {code}" if code else "")
    if messages:
        more = "; …" if len(messages) > _MAX_MESSAGES_SHOWN else ""
        text += ": " + "; ".join(messages[:_MAX_MESSAGES_SHOWN]) + more
    text += _remedy(settings, error_class, response)
    if response.status in operation.status_hints:
        text += f". {operation.status_hints[response.status]}"
    if identity:
        identity = clean_text(identity, MAX_CORRELATION_ID)
        text += f" (correlation id {identity})"
    return error_class(
        text,
        status=response.status,
        code=code,
        messages=messages,
        retry_after=retry_after_seconds(response),
        body=body,
        correlation_id=identity,
        cause=response.body_error,
    )


def _error_content(body: bytes) -> dict[str, Any]:
    try:
        content = codec().load_json(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _messages(content: Mapping[str, Any]) -> list[str]:
    """Return the messages of an error body, in each of the API's spellings."""
    messages = content.get("error_messages")
    if not isinstance(messages, list):
        messages = [content.get("error_message"), content.get("internal_message")]
    return [message for message in messages if isinstance(message, str)]


def _remedy(settings: Settings, error_class: type[ApiError], response: HttpResponse) -> str:
    if error_class is AuthenticationError:
        environment = f" ({settings.environment})" if settings.environment else ""
        host = settings.base_url.host
        return f". {host}{environment} rejected the credentials. Check key, username and environment"
    if error_class is UnexpectedStatusError or response.status in (307, 308):
        origin = redirect_origin(response.headers)
        return f". It redirects to {origin}; the client does not follow redirects" if origin else ""
    return ""


def _secrets(settings: Settings, call: CallInput) -> list[Secret]:
    """Return what the client sent and no error may show, longest first. Some servers echo the request."""
    secrets = {*settings.secrets}
    secrets.update(Secret(value) for _, value in settings.headers if len(value) >= MIN_SECRET_LENGTH)
    if call.session is not None and isinstance(call.session.url, str):
        secrets.update(Secret(secret) for secret in secrets_in_api_url(call.session.url))
    secrets.update(Secret(secret) for secret in call.operation.secrets_in_body(call.body))
    return sorted(secrets, key=len, reverse=True)
