"""Limits on what a request may send, enforced while it is read."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Refuses request bodies of more than `max_bytes`, by their declared length or, where that lies, while reading."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= self._max_bytes else {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            # Whatever the application makes of the cut body, the answer is ours.
            if received <= self._max_bytes:
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)
        finally:
            if received > self._max_bytes:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"the request is larger than {self._max_bytes} bytes"
        await JSONResponse({"detail": detail}, status_code=413)(scope, receive, send)
