"""Accounts: signing up, in and out, one's own account, and what admins do with other people's."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.accounts import sessions
from pipeline.accounts.manage import change_account, named
from pipeline.accounts.passwords import change_password, hash_password, sign_in
from pipeline.accounts.tries import Tries, address_of
from pipeline.accounts.users import MAX_PASSWORD, MIN_PASSWORD, NAME, Origin, Role, User, check_name
from pipeline.api.access import COOKIE, Admin, Cookie, CurrentSession, Viewer, require_our_origin, set_cookie
from pipeline.api.problems import documented
from pipeline.context import Context
from pipeline.errors import NotAllowed

router = APIRouter(tags=["accounts"])

# Described, not enforced, here: `check_name` and `check_password` say in a sentence what is wrong.
Name = Annotated[str, Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"}, examples=["ann"])]
NewPassword = Annotated[
    str,
    Field(
        json_schema_extra={"minLength": MIN_PASSWORD, "maxLength": MAX_PASSWORD},
        examples=["four words and a comma, say"],
    ),
]
Password = Annotated[str, Field(max_length=MAX_PASSWORD, examples=["four words and a comma, say"])]


class Account(BaseModel):
    """A user, as admins and the user see it."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(examples=["ann"])
    role: Role
    email: str | None
    source: Origin = Field(description="Who keeps the password: Sleeve itself, or Airflow")
    disabled: bool
    created_at: datetime


class NewAccount(BaseModel):
    """Who signs up."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    password: NewPassword
    email: str | None = Field(None, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$", examples=["ann@example.org"])


class Credentials(BaseModel):
    """Who signs in."""

    name: str = Field(max_length=200, examples=["ann"])
    password: Password


class PasswordForm(BaseModel):
    """The same as a form, as OAuth 2 has it (RFC 6749, section 4.3)."""

    grant_type: str = Field("password", pattern="^password$")
    username: str = Field(max_length=200, examples=["ann"])
    password: Password


class Tokens(BaseModel):
    """What a program signs its requests with, and how it gets more of them."""

    access_token: str = Field(description="Send it as `Authorization: Bearer ...`")
    refresh_token: str = Field(description="For POST /refresh, once; keep it secret")
    token_type: str = Field("bearer", examples=["bearer"])
    expires_in: int = Field(description="Seconds for which the access token is good", examples=[900])
    role: Role


class Renewal(BaseModel):
    """A refresh token, to be exchanged."""

    refresh_token: str = Field(max_length=200, examples=["5b0c8f6d1f0e4c5e9a7d2b3c4d5e6f70.what-POST-login-gave"])


class PasswordChange(BaseModel):
    """One's own new password."""

    model_config = ConfigDict(extra="forbid")

    old: Password
    new: NewPassword


class AccountChange(BaseModel):
    """What an admin changes of an account; what is left out, or null, stays."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = Field(None, examples=["admin"])
    disabled: bool | None = Field(None, description="A disabled user is signed out everywhere, and cannot sign in")


class Ended(BaseModel):
    """How many sessions were ended."""

    sessions: int


class UserPage(BaseModel):
    """Users in the order of their names."""

    users: list[Account]
    next: str | None = Field(description="Give this as `after` to get the next page; null where there is none")


@router.post("/signup", status_code=201, responses=documented(403, 409, 422, 429))
def sign_up(request: Request, new: NewAccount) -> Account:
    """Make an account. Open to everybody, unless SIGNUP_ROLE is `closed`; then sign in with POST /login."""
    context: Context = request.app.state.context
    role = context.settings.signup_role
    if role == "closed":
        raise NotAllowed("Sign-up is closed here. Ask an admin for an account; `sleeve user add` makes one.")
    name = check_name(new.name)
    _tries(request).sign_up(_address(request))
    return Account.model_validate(context.users.add(name, hash_password(new.password), role, new.email))


async def _credentials(request: Request) -> Credentials:
    try:
        if "json" in request.headers.get("content-type", ""):
            return Credentials.model_validate_json(await request.body())
        form = PasswordForm.model_validate(dict(await request.form()))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    return Credentials(name=form.username, password=form.password)


_EITHER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Credentials.model_json_schema()},
            "application/x-www-form-urlencoded": {"schema": PasswordForm.model_json_schema()},
        },
    }
}


@router.post("/login", responses=documented(401, 422, 429, 503), openapi_extra=_EITHER)
def log_in(request: Request, response: Response, given: Annotated[Credentials, Depends(_credentials)]) -> Tokens:
    """Sign in as a program: `name` and `password` as JSON, or as OAuth 2's password form. Open to everybody."""
    context: Context = request.app.state.context
    user = _check(request, given)
    held = sessions.open_session(context.users, user)
    return _tokens(context, response, sessions.resume(context.users, held), held)


@router.post("/refresh", responses=documented(401, 422))
def refresh(request: Request, response: Response, renewal: Renewal) -> Tokens:
    """Exchange a refresh token for new tokens. It is good once: used again later, it ends the session."""
    context: Context = request.app.state.context
    return _tokens(context, response, *sessions.refresh(context.users, renewal.refresh_token))


@router.post("/logout", status_code=204, responses=documented(401, 403))
def log_out(request: Request, session: CurrentSession) -> None:
    """End the session: its tokens are good for nothing from now on."""
    request.app.state.context.users.close_session(session.id)


@router.post("/session", responses=documented(401, 403, 422, 429, 503), dependencies=[Depends(require_our_origin)])
def open_browser_session(request: Request, response: Response, given: Credentials) -> Account:
    """Sign a browser in: its cookie is set, which no script can read. From our own pages only."""
    user = _check(request, given)
    set_cookie(request, response, sessions.open_session(request.app.state.context.users, user))
    return Account.model_validate(user)


@router.delete("/session", status_code=204, responses=documented(403), dependencies=[Depends(require_our_origin)])
def close_browser_session(request: Request, response: Response, cookie: Cookie) -> None:
    """Sign a browser out, whether or not its session is still good. From our own pages only."""
    if cookie is not None:
        sessions.close(request.app.state.context.users, cookie)
    # Pictures that may be shown to this person only are in the browser's cache as well.
    response.headers["Clear-Site-Data"] = '"cache"'
    response.delete_cookie(COOKIE)


@router.get("/me", responses=documented(401))
def me(user: Viewer) -> Account:
    """Who I am."""
    return Account.model_validate(user)


@router.post("/me/password", status_code=204, responses=documented(401, 403, 422, 429))
def change_my_password(request: Request, session: CurrentSession, change: PasswordChange) -> None:
    """Change one's password. All other sessions end."""
    users = request.app.state.context.users
    with _tries(request).password(session.user.name, _address(request)):
        change_password(users, session.user, change.old, change.new)
    users.close_sessions(session.user.id, but=session.id)


@router.get("/users", responses=documented(401, 403, 422))
def list_users(
    request: Request,
    admin: Admin,
    limit: Annotated[int, Query(ge=1, le=200, description="Most users")] = 50,
    after: Annotated[str, Query(max_length=200, description="`next` of the page before")] = "",
) -> UserPage:
    """All users, by name. For admins."""
    found = request.app.state.context.users.page(limit + 1, after)
    page = found[:limit]
    more = len(found) > limit
    return UserPage(users=[Account.model_validate(user) for user in page], next=page[-1].name if more else None)


@router.patch("/users/{name}", responses=documented(401, 403, 404, 409, 422))
def change_user(request: Request, admin: Admin, name: str, change: AccountChange) -> Account:
    """Give a user another role, disable the account or enable it. For admins; the last one of them stays one.

    Where Airflow tells the role of one of its users, it replaces this at the user's next sign-in.
    """
    return Account.model_validate(change_account(request.app.state.context.users, name, change.role, change.disabled))


@router.delete("/users/{name}/sessions", responses=documented(401, 403, 404, 422))
def sign_out_everywhere(request: Request, admin: Admin, name: str) -> Ended:
    """End all sessions of a user. For admins."""
    users = request.app.state.context.users
    return Ended(sessions=users.close_sessions(named(users, name).id))


def _check(request: Request, given: Credentials) -> User:
    context: Context = request.app.state.context
    with _tries(request).password(given.name, _address(request)):
        return sign_in(context.settings, context.users, given.name, given.password)


def _tokens(context: Context, response: Response, session: sessions.Session, held: str) -> Tokens:
    response.headers["Cache-Control"] = "no-store"
    return Tokens(
        access_token=sessions.access_token(context.settings, session),
        refresh_token=held,
        token_type="bearer",
        expires_in=int(sessions.ACCESS_LIFETIME.total_seconds()),
        role=session.user.role,
    )


def _tries(request: Request) -> Tries:
    tries: Tries = request.app.state.tries
    return tries


def _address(request: Request) -> str:
    return address_of(request.client.host if request.client else None)
