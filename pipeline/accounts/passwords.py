"""Passwords and the accounts that they open."""

from functools import cache

from pwdlib import PasswordHash

from pipeline.accounts.users import User, check_name, check_password
from pipeline.errors import Conflict
from pipeline.settings import Settings
from pipeline.stores.users import Users


@cache
def hasher() -> PasswordHash:
    """Argon2id, with the parameters that its library recommends."""
    return PasswordHash.recommended()


def make_first_admin(settings: Settings, users: Users) -> User | None:
    """The account that SLEEVE_USERNAME and SLEEVE_PASSWORD name, made if nobody has that name. None where unset."""
    if settings.sleeve_username is None or settings.sleeve_password is None:
        return None
    name = check_name(settings.sleeve_username)
    known = users.find(name)
    if known is not None:
        return known
    password = check_password(settings.sleeve_password.get_secret_value())
    try:
        return users.add(name, hasher().hash(password), "admin")
    except Conflict:
        # Another replica, which started at the same moment.
        return users.find(name)
