"""People: what Sleeve knows of a user, and who may do what."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pipeline.errors import BadQuery

Role = Literal["viewer", "annotator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "annotator", "admin")
"""Each may do what those before it may."""
Origin = Literal["local", "airflow"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,63}", re.ASCII)
MIN_PASSWORD = 10
WRONG_PASSWORD = "The name or the password is wrong."
# Hashing takes time in proportion; nobody types more.
MAX_PASSWORD = 200


@dataclass(frozen=True)
class User:
    """A person with an account."""

    id: UUID
    name: str
    role: Role
    disabled: bool
    source: Origin
    """Where the password is kept: here, or with Airflow."""
    email: str | None
    created_at: datetime

    def may(self, role: Role) -> bool:
        """Whether the user may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def check_name(name: str) -> str:
    """The name, if it can be one. Raises BadQuery."""
    if not NAME.fullmatch(name):
        raise BadQuery(
            "a name has 3 to 64 letters, digits, dots, dashes or underscores, and begins with a letter or digit"
        )
    return name


def check_password(password: str) -> str:
    """The password, if it is one to rely on. Raises BadQuery.

    Length is what counts, and rules of composition do not help:
    https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadQuery(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; a few words make a good one")
    return password
