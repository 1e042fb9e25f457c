"""What a client can do: one method for each row of the operations' table, and the wait for a session's end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from kustom_hpp import config
from kustom_hpp._call import Parts, run
from kustom_hpp._polling import check_poll_interval, wait
from kustom_hpp._protocol.operations import (
    CREATE_SESSION,
    DISABLE_SESSION,
    DISTRIBUTE_SESSION,
    OPERATIONS,
    READ_SESSION,
    Operation,
)
from kustom_hpp._protocol.session_requests import target_of
from kustom_hpp.config import OnUnknown, RetrySettings
from kustom_hpp.models import CreateSessionRequest, Distribution, Session, SessionDetails
from kustom_hpp.retry import Rules


def rules_of(settings: RetrySettings) -> dict[str, Rules]:
    """The rules of calls without options of their own, by the operation's name."""
    return {
        row.name: Rules(
            settings=settings,
            repeatable=row.repeatable,
            deadline=None,
            safe=row.safe,
            try_again=row.try_again,
            in_doubt=row.in_doubt,
        )
        for row in OPERATIONS
    }


class Verbs:
    """The methods of `HPPClient` that call the API."""

    _parts: Parts
    """Of creates."""
    _session_parts: Parts
    """Of the operations on sessions that exist."""
    _rules: dict[str, Rules]
    _settings: config.Settings

    async def create_session(
        self,
        request: CreateSessionRequest,
        *,
        deadline: float | None = None,
        on_unknown: OnUnknown | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Session:
        """Create a hosted page for a payment session: POST /hpp/v1/sessions.

        Not idempotent: what is known not to have been processed is sent again, what may have been processed never is,
        unless `on_unknown="resend"`.

        Args:
            request: the payment session's URL, merchant URLs and options.
            deadline: seconds from now for the whole call, all attempts and waits; None for no end.
            on_unknown: "resend" sends again what may have been processed, at the risk of a second session; None takes
                the client's setting.
            may_send: called just before each request leaves; False ends the call with a LeaseLostError. `batch.run` gives
                the claim of a shared journal here, so that a run whose lease is over sends nothing.

        Returns:
            The session; `payment_page` is where the consumer goes, `info` tells how the call went.

        Raises:
            InvalidRequestError: the documents forbid the request; nothing attempted.
            ConfigError: deadline or on_unknown cannot work; nothing attempted.
            ClientClosedError: nothing attempted.
            WrongLoopError: nothing attempted.
            DeadlineExceededError: nothing sent.
            ConnectError: nothing sent.
            LeaseLostError: nothing sent.
            ApiError: refused, unless it is an OutcomeUnknownError too.
            OutcomeUnknownError: the session may exist; never repeat the call, make a new order and a session for it.

        Source: docs.kustom.co, "Create an HPP session".

        """
        session: Session = await self._call(CREATE_SESSION, request, deadline, on_unknown, may_send)
        return session

    async def read_session(
        self, session: Session | SessionDetails | str, *, deadline: float | None = None
    ) -> SessionDetails:
        """Read how a session stands: GET its `session_url`, or /hpp/v1/sessions/{session_id}.

        Changes nothing, so that it is tried again after every failure that may pass, and may be repeated by you too: there
        is nothing to settle after a lost answer.

        Args:
            session: the session, its details, or its id.
            deadline: seconds from now for the whole call, all attempts and waits; None for no end.

        Returns:
            The details; `status` tells how far it came, `is_final` whether it will change any more.

        Raises:
            InvalidRequestError: it is no session and no id; nothing attempted.
            ConfigError: the deadline cannot work; nothing attempted.
            ClientClosedError: nothing attempted.
            WrongLoopError: nothing attempted.
            DeadlineExceededError: nothing sent.
            ConnectError: nothing sent.
            NotFoundError: the session has expired, or is unknown here.
            ApiError: refused, unless it is an OutcomeUnknownError too.
            OutcomeUnknownError: no answer that could be read came; it is safe to read again.

        Source: docs.kustom.co, "Read an HPP session".

        """
        details: SessionDetails = await self._call_for(READ_SESSION, session, deadline=deadline)
        return details

    async def wait_for_session(
        self,
        session: Session | SessionDetails | str,
        *,
        deadline: float,
        poll: float = 2.0,
        on_read: Callable[[SessionDetails], object] | None = None,
    ) -> SessionDetails:
        """Read a session until its status is final: COMPLETED, CANCELLED or DISABLED.

        A back-up for status callbacks, of which one may be lost. What passes by itself (no connection, a lost answer, 429,
        5xx) does not end the wait. An interval gets up to a tenth longer at random, and as long as an answer asks for.

        Args:
            session: the session, its details, or its id.
            deadline: seconds from now for all of it.
            poll: seconds from the end of one read to the next, from 0.5.
            on_read: told the details of each read, in the call's own task; must not block, and what it raises ends the
                wait.

        Returns:
            The details, with a final status. Only COMPLETED is paid.

        Raises:
            InvalidRequestError: it is no session and no id; nothing attempted.
            ConfigError: deadline or poll cannot work; nothing attempted.
            ClientClosedError: nothing attempted.
            WrongLoopError: nothing attempted.
            DeadlineExceededError: the status is not final yet, perhaps after many reads; `details` has the last ones.
            CertificateError: nothing sent.
            NotFoundError: the session has expired, or is unknown here; `details` has the last ones. It will not be paid
                any more; whether it was, between the last read and its end, the order tells.
            ApiError: a read was refused, unless it is an OutcomeUnknownError too.
            OutcomeUnknownError: an answer that cannot be read; it is safe to wait again.

        Source: docs.kustom.co, "Tracking session status".

        """
        config.check_deadline(deadline, required=True)
        check_poll_interval(poll)
        # A session that is none is told as such, whatever the deadline.
        self._session_parts.protocol.build(READ_SESSION, target_of(READ_SESSION, session), None)

        async def read(left: float) -> SessionDetails:
            return await self.read_session(session, deadline=left)

        return await wait(read, self._rules[READ_SESSION.name], deadline=deadline, poll=poll, on_read=on_read)

    async def disable_session(self, session: Session | SessionDetails | str, *, deadline: float | None = None) -> None:
        """Disable a session for good: DELETE its `session_url`, or /hpp/v1/sessions/{session_id}.

        The consumer's page shows an error from then on. Doing it twice does no harm, so that it is tried again after
        every failure that may pass. An earlier attempt of the call whose answer was lost may have disabled the session: a
        404 after that is what was wanted, and no error.

        Args:
            session: the session, its details, or its id.
            deadline: seconds from now for the whole call, all attempts and waits; None for no end.

        Raises:
            InvalidRequestError: it is no session and no id; nothing attempted.
            ConfigError: the deadline cannot work; nothing attempted.
            ClientClosedError: nothing attempted.
            WrongLoopError: nothing attempted.
            DeadlineExceededError: nothing sent.
            ConnectError: nothing sent.
            BadRequestError: the session is completed.
            NotFoundError: the session has expired, or is unknown here.
            ApiError: refused, unless it is an OutcomeUnknownError too.
            OutcomeUnknownError: it may be disabled; it is safe to disable it again.

        Source: docs.kustom.co, "Disable an HPP session".

        """
        await self._call_for(DISABLE_SESSION, session, deadline=deadline)

    async def distribute_session(
        self,
        session: Session | SessionDetails | str,
        request: Distribution,
        *,
        deadline: float | None = None,
        on_unknown: OnUnknown | None = None,
    ) -> None:
        """Send a session's link to the consumer: POST its `distribution_url`, or /hpp/v1/sessions/{session_id}/distribution.

        Each one sends a message, so that as with a create only what is known not to have been processed is sent again;
        and a 503 in the API's own words, as the documents say "please try again". The message may take minutes.

        Args:
            session: the session, its details, or its id.
            request: an `EmailDistribution`, `SmsDistribution` or `TokenDistribution`.
            deadline: seconds from now for the whole call, all attempts and waits; None for no end.
            on_unknown: "resend" sends again what may have been processed, at the risk of a second message; None takes
                the client's setting.

        Raises:
            InvalidRequestError: it is no session and no id, or the documents forbid the request; nothing attempted.
            ConfigError: deadline or on_unknown cannot work; nothing attempted.
            ClientClosedError: nothing attempted.
            WrongLoopError: nothing attempted.
            DeadlineExceededError: nothing sent.
            ConnectError: nothing sent.
            NotFoundError: the session has expired or is unknown here, or the access id is unknown.
            ApiError: refused, unless it is an OutcomeUnknownError too. `code` may be MISSING_CONTACT_DATA,
                CONSTRAINT_VIOLATION, UNSUPPORTED_COUNTRY and others; a session that is disabled is refused too.
            OutcomeUnknownError: the message may have been sent.

        Source: docs.kustom.co, "Distribute an HPP session".

        """
        await self._call_for(DISTRIBUTE_SESSION, session, request, deadline=deadline, on_unknown=on_unknown)

    def _call(
        self,
        operation: Operation,
        request: Any,
        deadline: float | None,
        on_unknown: OnUnknown | None,
        may_send: Callable[[], bool] | None,
    ) -> Coroutine[Any, Any, Any]:
        rules, parts = self._rules[operation.name], self._parts
        if deadline is not None or on_unknown is not None:
            rules = self._with_options(rules, deadline, on_unknown)
        http_request = parts.protocol.build(operation, request, rules.deadline)
        if may_send is not None:
            http_request = attrs.evolve(http_request, may_send=may_send)
        return run(parts, operation, request, http_request, rules)

    def _call_for(
        self,
        operation: Operation,
        session: Session | SessionDetails | str,
        request: Any = None,
        *,
        deadline: float | None,
        on_unknown: OnUnknown | None = None,
    ) -> Coroutine[Any, Any, Any]:
        rules, parts = self._rules[operation.name], self._session_parts
        if deadline is not None or on_unknown is not None:
            rules = self._with_options(rules, deadline, on_unknown)
        target = target_of(operation, session, request)
        return run(parts, operation, target, parts.protocol.build(operation, target, rules.deadline), rules)

    def _with_options(self, rules: Rules, deadline: float | None, on_unknown: OnUnknown | None) -> Rules:
        until = None if deadline is None else asyncio.get_running_loop().time() + config.check_deadline(deadline)
        settings = config.check_options(retry=self._settings.retry, on_unknown=on_unknown)["retry"]
        return attrs.evolve(rules, settings=settings, deadline=until)
