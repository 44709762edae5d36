"""Airflow's own users: they sign in here with their Airflow password, and have the role that matches."""

from typing import Any

import httpx
import jwt

from pipeline.accounts.users import NAME, ROLES, WRONG_PASSWORD, Role, User
from pipeline.errors import Conflict, NotSignedIn, ServerAway
from pipeline.settings import Settings
from pipeline.stores.users import Users

# The first sign-in after its start takes Airflow some seconds.
TIMEOUT = 30.0
REFUSED = {400, 401, 403, 404, 405, 415, 422}
# By the names that both of Airflow's usual managers of users have, in lower case.
MATCHING: dict[str, Role] = {"viewer": "viewer", "user": "annotator", "op": "annotator", "admin": "admin"}
# Where SimpleAuthManager lets everybody in as admin, that is whom it says they are.
ANYBODY = "Anonymous"


def sign_in(settings: Settings, users: Users, name: str, password: str) -> User:
    """The account of an Airflow user, made at the first sign-in. Raises NotSignedIn, ServerAway.

    Where Airflow does not tell the user's role, it stays what it is here, and is viewer at first.
    """
    if settings.airflow_api_url is None or not NAME.fullmatch(name):
        raise NotSignedIn(WRONG_PASSWORD)
    with httpx.Client(base_url=settings.airflow_api_url, timeout=TIMEOUT) as client:
        role = _ask(client, name, password)
    user = users.find(name)
    if user is None:
        try:
            return users.add(name, None, role or "viewer", source="airflow")
        except Conflict:
            # The same user at the same moment, or somebody who signs up by this name.
            user = users.find(name)
    if user is None or user.source != "airflow" or user.name != name:
        raise NotSignedIn(WRONG_PASSWORD)
    return users.change(user.id, role=role) if role not in (None, user.role) else user


def _ask(client: httpx.Client, name: str, password: str) -> Role | None:
    """The role of the user, if Airflow says who that is."""
    try:
        answer = client.post("/auth/token", json={"username": name, "password": password})
        if answer.status_code in REFUSED:
            raise NotSignedIn(WRONG_PASSWORD)
        token = answer.raise_for_status().json()["access_token"]
        # Airflow itself handed it to us a moment ago, so whose signature it bears is no question.
        claims = jwt.decode(token, options={"verify_signature": False})
        if "role" in claims:
            if claims.get("sub") != name or name == ANYBODY:
                raise NotSignedIn(WRONG_PASSWORD)
            return _matching([claims["role"]])
        return _role_in_fab(client, name, token)
    except (httpx.HTTPError, jwt.InvalidTokenError, ValueError, KeyError, TypeError) as error:
        raise ServerAway(
            f"Airflow, which may know {name}, gives no usable answer ({type(error).__name__}). Try again in a minute, "
            "or sign in with an account of Sleeve's own."
        ) from error


def _role_in_fab(client: httpx.Client, name: str, token: str) -> Role | None:
    """From the list of users that FabAuthManager has; None where there is none, or it is not for this user."""
    answer = client.get(f"/auth/fab/v1/users/{name}", headers={"Authorization": f"Bearer {token}"})
    if answer.status_code in REFUSED:
        return None
    return _matching([role["name"] for role in answer.raise_for_status().json()["roles"]])


def _matching(names: list[Any]) -> Role:
    """The highest of our roles that one of Airflow's gives."""
    return max((MATCHING.get(str(name).lower(), "viewer") for name in names), key=ROLES.index, default="viewer")
