"""Large forms: read to disk, file by file, and only from people who may send them."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from pipeline.api.access import COOKIE, require, signed_in

MAX_FILES = 200
MULTIPART = "multipart/form-data"


class LargeForm(APIRoute):
    """A route for annotators whose form may be large: who may not use it is told so before it is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, which reads the form before it asks who sent it; so it is asked before."""
        handle = super().get_route_handler()

        async def after_sign_in(request: Request) -> Response:
            bearer = await OAuth2PasswordBearer("login", auto_error=False)(request)
            session = await run_in_threadpool(signed_in, request, bearer, request.cookies.get(COOKIE))
            require(session.user, "annotator")
            return await handle(_OnDisk(request.scope, request.receive))

        return after_sign_in


class _OnDisk(Request):
    async def _get_form(self, **_: Any) -> FormData:
        if self._form is None and self.headers.get("content-type", "").startswith(MULTIPART):
            try:
                self._form = await _Parser(self.headers, self.stream(), max_files=MAX_FILES).parse()
            except MultiPartException as error:
                # Of FastAPI's own kind: any other it would replace.
                said = f"{error.message} Put more than {MAX_FILES} files into a zip or tar archive."
                raise HTTPException(422, said) from None
        return await super()._get_form()


class _Parser(MultiPartParser):
    # Of each file that is being sent, this much may be in memory.
    spool_max_size = 64 << 10
