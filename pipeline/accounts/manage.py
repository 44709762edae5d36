"""What admins do with other people's accounts. Somebody always stays who can."""

from typing import Any

from pipeline.accounts.users import Role, User
from pipeline.errors import Conflict, Unknown
from pipeline.stores.users import Users

LAST = "{name} is the last admin; make somebody else admin first."


def named(users: Users, name: str) -> User:
    """The user of that name. Raises Unknown."""
    user = users.find(name)
    if user is None:
        raise Unknown(f"There is no user {name}.")
    return user


def change_account(users: Users, name: str, role: Role | None = None, disabled: bool | None = None) -> User:
    """Give a user another role, or disable or enable the account; disabling ends all sessions.

    Raises Unknown, and Conflict where nobody would be left who is admin and not disabled.
    """
    user = named(users, name)
    given = {"role": role, "disabled": disabled}
    fields: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if not fields:
        return user
    steps_down = user.role == "admin" and not user.disabled and (role not in (None, "admin") or bool(disabled))
    if steps_down and not users.has_admin(but=user.id):
        raise Conflict(LAST.format(name=user.name))
    changed = users.change(user.id, **fields)
    if steps_down and not users.has_admin():
        # Two admins who took the role from each other at the same moment: both get it back.
        users.change(user.id, role=user.role, disabled=user.disabled)
        raise Conflict(LAST.format(name=user.name))
    if changed.disabled:
        users.close_sessions(user.id)
    return changed
