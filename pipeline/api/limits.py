"""Limits on what a request may send, enforced while it is read."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api.problems import problem


class BodyLimit:
    """Refuses bodies of more than `max_bytes`, by their declared length or, where that lies, while reading.

    `larger` has paths with a limit of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._larger.get(scope["path"], self._max_bytes)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await _refuse(limit, scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= limit else {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            # Whatever the application makes of the cut body, the answer is ours.
            if received <= limit:
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)
        finally:
            if received > limit:
                await _refuse(limit, scope, receive, send)


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    await problem(scope, 413, f"the request is larger than {limit} bytes")(scope, receive, send)
