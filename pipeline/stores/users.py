"""Users and their sessions in the catalogue's database."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pymongo import ASCENDING
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from pipeline.accounts.users import Origin, Role, User
from pipeline.errors import Conflict, Unknown

Document = dict[str, Any]
PAGE = 200


class Users:
    """People by name and id. Names differ in more than case."""

    def __init__(self, database: Database[Document]) -> None:
        self._users = database["users"]
        self._sessions = database["sessions"]

    def add(
        self, name: str, hashed: str | None, role: Role, email: str | None = None, source: Origin = "local"
    ) -> User:
        """A new user; `hashed` is the hash of the password. Raises Conflict when the name is taken."""
        document = {
            "_id": uuid4(),
            "key": name.casefold(),
            "name": name,
            "hashed": hashed,
            "role": role,
            "email": email,
            "source": source,
            "disabled": False,
            "created_at": datetime.now(UTC),
        }
        try:
            self._users.insert_one(document)
        except DuplicateKeyError:
            raise Conflict(f"The name {name} is taken; choose another.") from None
        return _user(document)

    def find(self, name: str) -> User | None:
        document = self._users.find_one({"key": name.casefold()})
        return _user(document) if document else None

    def get(self, user: UUID) -> User | None:
        document = self._users.find_one({"_id": user})
        return _user(document) if document else None

    def hashed(self, user: UUID) -> str | None:
        """Hash of the user's password; None for one whose password we do not keep."""
        document = self._users.find_one({"_id": user}, {"hashed": 1})
        return document["hashed"] if document else None

    def rehash(self, user: UUID, old: str, new: str) -> None:
        """Keep the same password under newer parameters, unless it was changed meanwhile."""
        self._users.update_one({"_id": user, "hashed": old}, {"$set": {"hashed": new}})

    def change(self, user: UUID, **fields: Any) -> User:
        """Set fields (role, disabled, hashed, email). Raises Unknown."""
        if not self._users.update_one({"_id": user}, {"$set": fields}).matched_count:
            raise Unknown("There is no such user.")
        document = self._users.find_one({"_id": user})
        assert document is not None  # users are disabled, never removed
        return _user(document)

    def page(self, limit: int, after: str = "") -> list[User]:
        """Users in the order of their names, from behind the name `after`."""
        found = self._users.find({"key": {"$gt": after.casefold()}}).sort("key", ASCENDING).limit(limit)
        return [_user(document) for document in found]

    def everybody(self) -> Iterator[User]:
        """All users in the order of their names."""
        after = ""
        while page := self.page(PAGE, after):
            yield from page
            after = page[-1].name

    def has_admin(self, but: UUID | None = None) -> bool:
        """Whether somebody, except `but`, is an admin and not disabled."""
        return self._users.find_one({"role": "admin", "disabled": False, "_id": {"$ne": but}}, {}) is not None

    # Sessions: one for each sign-in, until it is revoked or expires

    def open_session(self, user: UUID, secret: str, expires_at: datetime) -> UUID:
        """A new session; `secret` is the hash of what its holder has."""
        session = uuid4()
        now = datetime.now(UTC)
        document = {"_id": session, "user": user, "secret": secret, "previous": None, "opened_at": now}
        self._sessions.insert_one({**document, "rotated_at": now, "expires_at": expires_at})
        return session

    def session(self, session: UUID) -> Document | None:
        """{user, secret, previous, rotated_at} of a session that is still good."""
        return self._sessions.find_one({"_id": session, "expires_at": {"$gt": datetime.now(UTC)}})

    def rotate(self, session: UUID, old: str, new: str) -> bool:
        """Exchange the session's secret, if `old` is the present one."""
        fields = {"secret": new, "previous": old, "rotated_at": datetime.now(UTC)}
        return bool(self._sessions.update_one({"_id": session, "secret": old}, {"$set": fields}).matched_count)

    def close_session(self, session: UUID) -> None:
        self._sessions.delete_one({"_id": session})

    def close_sessions(self, user: UUID, but: UUID | None = None) -> int:
        """End all sessions of a user, except `but`. Returns how many."""
        return self._sessions.delete_many({"user": user, "_id": {"$ne": but}}).deleted_count


def _user(document: Document) -> User:
    return User(
        id=document["_id"],
        name=document["name"],
        role=document["role"],
        disabled=document["disabled"],
        source=document["source"],
        email=document["email"],
        created_at=document["created_at"],
    )
