"""Passwords and the accounts that they open."""

import os
import secrets
import threading
import unicodedata
from collections.abc import Callable
from functools import cache

from pwdlib import PasswordHash

from pipeline.accounts import airflow
from pipeline.accounts.manage import named
from pipeline.accounts.users import WRONG_PASSWORD, User, check_name, check_password
from pipeline.errors import Conflict, NotAllowed, NotSignedIn
from pipeline.settings import Settings
from pipeline.stores.users import Users

# A hash takes 64 MiB and a core, so a crowd that signs in waits in line.
_at_once = threading.BoundedSemaphore(os.cpu_count() or 1)


@cache
def hasher() -> PasswordHash:
    """Argon2id, with the parameters that its library recommends."""
    return PasswordHash.recommended()


def hash_password(password: str) -> str:
    """What is stored of a password. Raises BadQuery where it is too short or too long."""
    with _at_once:
        return hasher().hash(_same_everywhere(check_password(password)))


def make_first_admin(settings: Settings, users: Users) -> User | None:
    """The account that SLEEVE_USERNAME and SLEEVE_PASSWORD name, made if nobody has that name. None where unset."""
    if settings.sleeve_username is None or settings.sleeve_password is None:
        return None
    name = check_name(settings.sleeve_username)
    known = users.find(name)
    if known is not None:
        return known
    hashed = hash_password(settings.sleeve_password.get_secret_value())
    try:
        return users.add(name, hashed, "admin")
    except Conflict:
        # Another replica, which started at the same moment.
        return users.find(name)


def sign_in(settings: Settings, users: Users, name: str, password: str) -> User:
    """Whose name and password these are: of an account here or, where nobody has that name here, with Airflow.

    A wrong password takes as long as an unknown name, and is answered alike. Raises NotSignedIn, ServerAway.
    """
    user = users.find(name)
    if user is None or user.source == "airflow":
        _is_password(users, None, password)
        user = airflow.sign_in(settings, users, user.name if user else name, password)
    elif not _is_password(users, user, password):
        raise NotSignedIn(WRONG_PASSWORD)
    if user.disabled:
        raise NotSignedIn("This account is disabled; an admin can enable it again.")
    return user


def change_password(users: Users, user: User, old: str, new: str) -> None:
    """Raises NotAllowed where `old` is wrong or Airflow keeps the password, BadQuery where `new` is not good."""
    if user.source == "airflow":
        raise NotAllowed("Airflow keeps your password; change it there.")
    check_password(new)
    if not _is_password(users, user, old):
        raise NotAllowed("The old password is wrong.")
    users.change(user.id, hashed=hash_password(new))


def set_password(users: Users, name: str, ask: Callable[[], str]) -> User:
    """Give a user the password that `ask` returns; all sessions end. Raises Unknown, NotAllowed, BadQuery."""
    user = named(users, name)
    if user.source == "airflow":
        raise NotAllowed(f"Airflow keeps the password of {user.name}; change it there.")
    users.change(user.id, hashed=hash_password(ask()))
    users.close_sessions(user.id)
    return user


def _is_password(users: Users, user: User | None, password: str) -> bool:
    """Whether it is; of None never, after the same time."""
    hashed = users.hashed(user.id) if user else None
    with _at_once:
        right, better = hasher().verify_and_update(_same_everywhere(password), hashed or _nobodys_hash())
    if user is None or hashed is None:
        return False
    if right and better:
        users.rehash(user.id, hashed, better)
    return right


@cache
def _nobodys_hash() -> str:
    return hasher().hash(secrets.token_urlsafe())


def _same_everywhere(password: str) -> str:
    # The same é can be one character on one keyboard and two on another.
    return unicodedata.normalize("NFC", password)
