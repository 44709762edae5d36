"""Limits on what a request may send, enforced while it is read."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api.access import COOKIE
from pipeline.api.problems import problem


class BodyLimit:
    """Refuses bodies of more than `max_bytes`, by their declared length or, where that lies, while reading.

    `own` has paths with a limit of their own. Whoever shows no credentials at all may send `anonymous` bytes, since
    bodies are read before routes look at credentials.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, own: Mapping[str, int], anonymous: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._own = own
        self._anonymous = anonymous

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._own.get(scope["path"], self._max_bytes)
        stranger = not _shows_credentials(scope)
        readable = min(limit, self._anonymous) if stranger else limit
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(declared) if declared.isdigit() else limit + 1
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= readable else {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            # Whatever the application makes of the cut body, the answer is ours.
            if received <= readable:
                await send(message)

        if size <= readable:
            try:
                await self._app(scope, counted, unless_refused)
            finally:
                if received > readable:
                    await _refuse(limit, stranger and received <= limit, scope, receive, send)
        else:
            await _refuse(limit, stranger and size <= limit, scope, receive, send)


def _shows_credentials(scope: Scope) -> bool:
    """Whether there are any; whether they are good is looked at later."""
    return any(
        name == b"authorization" or (name == b"cookie" and COOKIE.encode() in value) for name, value in scope["headers"]
    )


async def _refuse(limit: int, stranger: bool, scope: Scope, receive: Receive, send: Send) -> None:
    if stranger:
        headers = {"WWW-Authenticate": "Bearer"}
        answer = problem(scope, 401, "Sign in before you send this: POST /login gives an access token.", headers)
    else:
        answer = problem(scope, 413, f"the request is larger than {limit} bytes")
    await answer(scope, receive, send)
