"""Sessions: signing in, staying signed in, signing out.

A session is a row in the catalogue and a secret with its holder. Browsers hold the secret in a cookie. Programs hold it
as a refresh token and exchange it, each time for a new one, for access tokens that live for minutes (RFC 9700, section
4.14). Every request looks the session up, so a revocation counts at once, for access tokens as well.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt

from pipeline.accounts.users import User
from pipeline.errors import NotSignedIn
from pipeline.settings import Settings
from pipeline.stores.users import Users

ALGORITHM = "HS256"
ISSUER = "sleeve"
AUDIENCE = "sleeve-api"
ACCESS_LIFETIME = timedelta(minutes=15)
SESSION_LIFETIME = timedelta(days=30)
# Nobody tells us when Airflow forgets a user or changes a role, so they come again each day, as they do there.
AIRFLOW_LIFETIME = timedelta(days=1)
# An answer may be lost on its way, or two windows may refresh at once: the secret before is good for that long.
GRACE = timedelta(seconds=30)
AGAIN = "Sign in again."


@dataclass(frozen=True)
class Session:
    """A session that is good, and whose it is."""

    id: UUID
    user: User


def open_session(users: Users, user: User) -> str:
    """Begin a session; returns the secret that its holder keeps."""
    secret = secrets.token_urlsafe(32)
    lifetime = AIRFLOW_LIFETIME if user.source == "airflow" else SESSION_LIFETIME
    session = users.open_session(user.id, _hash(secret), datetime.now(UTC) + lifetime)
    return f"{session.hex}.{secret}"


def resume(users: Users, held: str) -> Session:
    """The session of which this is the secret. Raises NotSignedIn."""
    session, secret = _split(held)
    found = users.session(session)
    if found is None or not secrets.compare_digest(found["secret"], _hash(secret)):
        raise NotSignedIn(f"This session has ended. {AGAIN}")
    return Session(session, _enabled(users, found["user"]))


def close(users: Users, held: str) -> None:
    """End the session of which this is the secret, if there is one."""
    try:
        users.close_session(resume(users, held).id)
    except NotSignedIn:
        # It has ended already, which is what was asked for.
        return


def refresh(users: Users, held: str) -> tuple[Session, str]:
    """The session of which this is the refresh token, and the next one. Raises NotSignedIn.

    A token that was exchanged before is in two hands, one of them a thief's: the session ends for both.
    """
    session, secret = _split(held)
    found, hashed = users.session(session), _hash(secret)
    if found is None:
        raise NotSignedIn(f"This session has ended. {AGAIN}")
    late = datetime.now(UTC) - found["rotated_at"] > GRACE
    if hashed != found["secret"] and (hashed != found["previous"] or late):
        users.close_session(session)
        raise NotSignedIn(f"This refresh token was used before, so the session was ended. {AGAIN}")
    new = secrets.token_urlsafe(32)
    if not users.rotate(session, found["secret"], _hash(new)):
        raise NotSignedIn("This session was refreshed at the same moment; use the refresh token that came with that.")
    return Session(session, _enabled(users, found["user"])), f"{session.hex}.{new}"


def access_token(settings: Settings, session: Session) -> str:
    """A signed token that names the session, for ACCESS_LIFETIME."""
    now = datetime.now(UTC)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": session.user.id.hex,
        "sid": session.id.hex,
        "iat": now,
        "exp": now + ACCESS_LIFETIME,
    }
    return jwt.encode(claims, settings.require_secret("jwt_secret"), ALGORITHM)


def check_access(settings: Settings, users: Users, token: str) -> Session:
    """The session that an access token names. Raises NotSignedIn."""
    try:
        claims = jwt.decode(
            token,
            settings.require_secret("jwt_secret"),
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": ["exp", "iat", "iss", "aud", "sub", "sid"]},
        )
        session = UUID(claims["sid"])
    except jwt.ExpiredSignatureError:
        raise NotSignedIn("The access token has expired; get another with the refresh token.") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
        raise NotSignedIn(f"The access token is not valid. {AGAIN}") from None
    found = users.session(session)
    if found is None or found["user"].hex != claims["sub"]:
        raise NotSignedIn(f"This session has ended. {AGAIN}")
    return Session(session, _enabled(users, found["user"]))


def _split(held: str) -> tuple[UUID, str]:
    session, _, secret = held.partition(".")
    try:
        return UUID(hex=session), secret
    except ValueError:
        raise NotSignedIn(f"That is no token of ours. {AGAIN}") from None


def _hash(secret: str) -> str:
    # A random secret of 256 bits needs no slow hash.
    return hashlib.sha256(secret.encode()).hexdigest()


def _enabled(users: Users, one: UUID) -> User:
    user = users.get(one)
    if user is None or user.disabled:
        raise NotSignedIn("This account is disabled; an admin can enable it again.")
    return user
