"""Who asks, and whether they may: every route takes one of `Viewer`, `Annotator` and `Admin`, or is open on purpose."""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends, Request, Response
from fastapi.security import APIKeyCookie, OAuth2PasswordBearer

from pipeline.accounts.sessions import SESSION_LIFETIME, Session, check_access, resume
from pipeline.accounts.users import Role, User
from pipeline.context import Context
from pipeline.errors import NotAllowed, NotSignedIn, UnknownImage
from pipeline.stores.catalog import Document

COOKIE = "sleeve_session"
READING = {"GET", "HEAD", "OPTIONS"}

_bearer = OAuth2PasswordBearer("login", auto_error=False, description="The access token of POST /login")
_cookie = APIKeyCookie(
    name=COOKIE, auto_error=False, description="What the pages sign in with; from our own origin only"
)
Bearer = Annotated[str | None, Depends(_bearer)]
Cookie = Annotated[str | None, Depends(_cookie)]


def signed_in(request: Request, bearer: Bearer, cookie: Cookie) -> Session:
    """The session of a request: of its access token or, without one, of its cookie. Raises NotSignedIn."""
    context: Context = request.app.state.context
    if bearer is not None:
        return check_access(context.settings, context.users, bearer)
    # Something else than a bearer is not overlooked: who sends it believes to be somebody.
    if cookie is None or "authorization" in request.headers:
        raise NotSignedIn("Sign in: POST /login gives an access token, to be sent as `Authorization: Bearer ...`.")
    if request.method not in READING:
        require_our_origin(request)
    return resume(context.users, cookie)


def require_our_origin(request: Request) -> None:
    """Raise NotAllowed unless one of our own pages sent this; browsers say so, and no script can make them lie."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None:
        ours = origin is not None and urlsplit(origin).netloc == request.url.netloc
    else:
        ours = site == "same-origin"
    if not ours:
        raise NotAllowed("Only pages of this site may use your cookie. Elsewhere, use an access token of POST /login.")


def set_cookie(request: Request, response: Response, held: str) -> None:
    """Let the browser keep the secret of its session, where no script can read it."""
    public: str = request.app.state.settings.sleeve_public_url or ""
    secure = "https" in (request.url.scheme, urlsplit(public).scheme)
    seconds = int(SESSION_LIFETIME.total_seconds())
    response.set_cookie(COOKIE, held, max_age=seconds, httponly=True, secure=secure, samesite="lax")


CurrentSession = Annotated[Session, Depends(signed_in)]


def _at_least(role: Role) -> Callable[[Session], User]:
    def check(session: CurrentSession) -> User:
        require(session.user, role)
        return session.user

    return check


def require(user: User, role: Role) -> None:
    """Raise NotAllowed for who may not do what `role` may."""
    if not user.may(role):
        raise NotAllowed(f"This needs the role {role}; {user.name} is {user.role}. An admin can change that.")


Viewer = Annotated[User, Depends(_at_least("viewer"))]
Annotator = Annotated[User, Depends(_at_least("annotator"))]
Admin = Annotated[User, Depends(_at_least("admin"))]


def visible_to(user: User) -> str | None:
    """Whose private images are shown beside everybody's, as `Filter.visible_to`: None, everybody's, to admins."""
    return None if user.may("admin") else user.name


def readable(context: Context, user: User, image: UUID) -> Document:
    """The document of an image that the user may see. Raises UnknownImage."""
    document = context.catalog.find([image]).get(image)
    hidden = document is not None and document.get("private") and visible_to(user) not in (None, document["owner"])
    if document is None or document["status"] == "deleted" or hidden:
        raise UnknownImage(f"There is no image {image} in the collection.")
    return document


def changeable(context: Context, user: User, image: UUID) -> Document:
    """The document of an image that the user may change: their own, any for admins. Raises UnknownImage, NotAllowed."""
    document = readable(context, user, image)
    if not user.may("admin") and document["owner"] != user.name:
        owner = document["owner"] or "nobody"
        raise NotAllowed(f"Image {image} belongs to {owner}; only its owner or an admin may change it.")
    return document
