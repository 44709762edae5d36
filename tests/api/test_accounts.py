"""Accounts over HTTP: signing up, in and out, one's own account, and what admins do with other people's."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from pipeline.accounts.sessions import GRACE
from pipeline.accounts.tries import ONE_NAME_FROM_ONE_ADDRESS, SIGN_UPS
from pipeline.api.app import FORM, create_app
from pipeline.context import Context

PASSWORD = "four words and a comma"


def sign_up(client: TestClient, name: str, password: str = PASSWORD) -> None:
    answer = client.post("/signup", json={"name": name, "password": password})
    assert answer.status_code == 201, answer.text


def log_in(client: TestClient, name: str, password: str = PASSWORD) -> dict[str, Any]:
    answer = client.post("/login", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    return answer.json()


def me(client: TestClient, tokens: dict[str, Any]) -> int:
    return client.get("/me", headers={"Authorization": f"Bearer {tokens['access_token']}"}).status_code


def said(client: TestClient, path: str, **body: Any) -> tuple[int, str]:
    answer = client.post(path, json=body)
    return answer.status_code, answer.json()["detail"]


def test_sign_up_sign_in_and_be_somebody(nobody: TestClient) -> None:
    made = nobody.post("/signup", json={"name": "Eve", "password": PASSWORD, "email": "eve@example.org"})
    assert made.status_code == 201
    account = {"name": "Eve", "role": "annotator", "email": "eve@example.org", "source": "local", "disabled": False}
    assert made.json().items() >= account.items()
    assert PASSWORD not in made.text
    by_json = nobody.post("/login", json={"name": "eve", "password": PASSWORD})
    by_form = nobody.post("/login", data={"grant_type": "password", "username": "eve", "password": PASSWORD})
    for answer in (by_json, by_form):
        tokens = answer.json()
        assert (tokens["token_type"], tokens["expires_in"], tokens["role"]) == ("bearer", 900, "annotator")
        assert answer.headers["cache-control"] == "no-store"
        mine = nobody.get("/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert mine.json().items() >= account.items()


def test_what_cannot_be_an_account_is_refused_in_a_sentence(nobody: TestClient) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"name": "ab"}, "3 to 64 letters"),
        ({"name": "<b>bold</b>"}, "3 to 64 letters"),
        ({"name": "ann\n"}, "3 to 64 letters"),
        ({"password": "short"}, "10 to 200 characters"),
        ({"password": "x" * 201}, "10 to 200 characters"),
        ({"email": "somewhere"}, "email"),
        ({"role": "admin"}, "role"),
        ({"password": None}, "password"),
    ]
    for fields, reason in bad:
        status, detail = said(nobody, "/signup", **{"name": "eve", "password": PASSWORD, **fields})
        assert (status, reason in detail) == (422, True), detail


def test_odd_bodies_are_refused(nobody: TestClient) -> None:
    json = {"content-type": "application/json"}
    for body in (b"", b"{", b"[]", b'{"name": "eve"}', b'{"name": "\\ud800", "password": "\\ud800"}', b"\xff"):
        assert nobody.post("/login", content=body, headers=json).status_code == 422, body
        assert nobody.post("/signup", content=body, headers=json).status_code == 422, body
    assert nobody.post("/login", data={"username": "eve"}).status_code == 422
    assert nobody.post("/login", data={"grant_type": "x", "username": "e", "password": "p"}).status_code == 422
    assert nobody.post("/login", content=b"--x", headers={"content-type": "multipart/form-data"}).status_code == 422


def test_a_name_is_one_persons_whatever_its_case(nobody: TestClient) -> None:
    answers: list[int] = []
    body = {"password": PASSWORD}
    threads = [
        threading.Thread(
            target=lambda name=name: answers.append(nobody.post("/signup", json={"name": name, **body}).status_code)
        )
        for name in ("eve", "EVE", "Eve")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409, 409]


def test_sign_up_can_be_closed_or_for_viewers(context: Context) -> None:
    for role, status in (("viewer", 201), ("closed", 403)):
        settings = context.settings.model_copy(update={"signup_role": role})
        with TestClient(create_app(settings)) as client:
            answer = client.post("/signup", json={"name": f"eve-{role}", "password": PASSWORD})
            assert answer.status_code == status
            if status == 201:
                assert answer.json()["role"] == "viewer"
            else:
                assert "sleeve user add" in answer.json()["detail"]


def test_a_wrong_password_and_an_unknown_name_look_alike(nobody: TestClient) -> None:
    sign_up(nobody, "eve")
    answers, seconds = {}, {}
    for name in ("eve", "nobody"):
        times = []
        for _ in range(4):
            began = time.perf_counter()
            answer = nobody.post("/login", json={"name": name, "password": "not the password"})
            times.append(time.perf_counter() - began)
        answers[name] = answer.status_code, answer.json() | {"request_id": ""}
        seconds[name] = min(times)
    assert answers["eve"] == answers["nobody"]
    assert answers["eve"][0] == 401
    # Without a hash the answer would come in a fraction of the time.
    assert seconds["nobody"] > 0.5 * seconds["eve"]


def test_a_hash_of_older_parameters_is_renewed(nobody: TestClient, context: Context) -> None:
    weak = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)]).hash(PASSWORD)
    user = context.users.add("eve", weak, "viewer")
    log_in(nobody, "eve")
    renewed = context.users.hashed(user.id)
    assert renewed
    assert renewed != weak
    assert "m=65536" in renewed
    log_in(nobody, "eve")
    assert context.users.hashed(user.id) == renewed


def test_a_password_is_the_same_from_every_keyboard(nobody: TestClient) -> None:
    sign_up(nobody, "eve", "caf\u00e9 au lait please")
    log_in(nobody, "eve", "cafe\u0301 au lait please")


def test_refresh_tokens_are_good_once(nobody: TestClient, context: Context) -> None:
    sign_up(nobody, "eve")
    first = log_in(nobody, "eve")
    second = nobody.post("/refresh", json={"refresh_token": first["refresh_token"]}).json()
    assert me(nobody, second) == 200
    third = nobody.post("/refresh", json={"refresh_token": second["refresh_token"]}).json()
    # An answer that got lost: the token before is good for a moment.
    again = nobody.post("/refresh", json={"refresh_token": second["refresh_token"]})
    assert again.status_code == 200
    assert me(nobody, third) == 200
    # Much later it is in a thief's hands, or ours is: the session ends for both.
    sessions = context.catalog.database["sessions"]
    [found] = sessions.find()
    sessions.update_one({}, {"$set": {"rotated_at": found["rotated_at"] - GRACE - timedelta(seconds=1)}})
    stolen = nobody.post("/refresh", json={"refresh_token": second["refresh_token"]})
    assert (stolen.status_code, "used before" in stolen.json()["detail"]) == (401, True)
    assert me(nobody, third) == 401
    assert nobody.post("/refresh", json={"refresh_token": again.json()["refresh_token"]}).status_code == 401
    assert nobody.post("/refresh", json={"refresh_token": "x"}).status_code == 401


def test_signing_out_ends_this_session_and_no_other(nobody: TestClient) -> None:
    sign_up(nobody, "eve")
    phone, laptop = log_in(nobody, "eve"), log_in(nobody, "eve")
    headers = {"Authorization": f"Bearer {phone['access_token']}"}
    assert nobody.post("/logout", headers=headers).status_code == 204
    assert me(nobody, phone) == 401
    assert nobody.post("/refresh", json={"refresh_token": phone["refresh_token"]}).status_code == 401
    assert me(nobody, laptop) == 200


def test_a_new_password_ends_all_other_sessions(nobody: TestClient) -> None:
    sign_up(nobody, "eve")
    phone, laptop = log_in(nobody, "eve"), log_in(nobody, "eve")
    client = TestClient(nobody.app, headers={"Authorization": f"Bearer {laptop['access_token']}"})
    new = "five words and no comma"
    assert said(client, "/me/password", old="wrong one", new=new) == (403, "The old password is wrong.")
    assert said(client, "/me/password", old=PASSWORD, new="short")[0] == 422
    assert (me(nobody, phone), me(nobody, laptop)) == (200, 200)
    assert client.post("/me/password", json={"old": PASSWORD, "new": new}).status_code == 204
    assert (me(nobody, phone), me(nobody, laptop)) == (401, 200)
    assert said(nobody, "/login", name="eve", password=PASSWORD)[0] == 401
    log_in(nobody, "eve", new)


def test_browsers_have_a_cookie_that_no_script_reads(nobody: TestClient) -> None:
    sign_up(nobody, "eve")
    page = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    credentials = {"name": "eve", "password": PASSWORD}
    assert nobody.post("/session", json=credentials).status_code == 403
    answer = nobody.post("/session", json=credentials, headers=page)
    assert (answer.status_code, answer.json()["name"]) == (200, "eve")
    flags = {flag.strip().lower() for flag in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= flags
    assert "secure" not in flags
    assert nobody.get("/me").json()["name"] == "eve"
    held = nobody.cookies["sleeve_session"]
    assert nobody.delete("/session", headers=page).status_code == 204
    assert "sleeve_session" not in nobody.cookies
    assert nobody.get("/me", headers={"Cookie": f"sleeve_session={held}"}).status_code == 401
    # Twice is fine: a browser whose session ended long ago signs out as well.
    assert nobody.delete("/session", headers=page).status_code == 204


@pytest.mark.parametrize(("base", "public"), [("https://testserver", None), ("http://testserver", "https://a.example")])
def test_behind_tls_the_cookie_goes_over_tls_only(context: Context, base: str, public: str | None) -> None:
    settings = context.settings.model_copy(update={"sleeve_public_url": public})
    with TestClient(create_app(settings), base_url=base) as client:
        sign_up(client, "eve")
        answer = client.post("/session", json={"name": "eve", "password": PASSWORD}, headers={"Origin": base})
    assert "; secure" in answer.headers["set-cookie"].lower()


def test_admins_page_through_users(as_admin: TestClient, context: Context) -> None:
    for name in ("zoe", "Bob", "carl"):
        context.users.add(name, None, "viewer")
    names: list[str] = []
    after = ""
    while True:
        page = as_admin.get("/users", params={"limit": 2, "after": after}).json()
        assert len(page["users"]) <= 2
        names += [user["name"] for user in page["users"]]
        after = page["next"]
        if after is None:
            break
    assert names == ["ada", context.settings.sleeve_username, "Bob", "carl", "zoe"]
    assert "hash" not in as_admin.get("/users").text


def test_a_disabled_user_is_out_at_once(nobody: TestClient, as_admin: TestClient) -> None:
    sign_up(nobody, "eve")
    tokens = log_in(nobody, "eve")
    assert as_admin.patch("/users/EVE", json={"disabled": True}).json()["disabled"] is True
    assert me(nobody, tokens) == 401
    assert nobody.post("/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 401
    status, detail = said(nobody, "/login", name="eve", password=PASSWORD)
    assert (status, "disabled" in detail) == (401, True)
    # Only who knows the password hears that.
    assert "disabled" not in said(nobody, "/login", name="eve", password="wrong password")[1]
    as_admin.patch("/users/eve", json={"disabled": False})
    assert me(nobody, tokens) == 401
    log_in(nobody, "eve")


def test_a_role_counts_at_the_next_request(nobody: TestClient, as_admin: TestClient) -> None:
    sign_up(nobody, "eve")
    tokens = log_in(nobody, "eve")
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert nobody.get("/users", headers=headers).status_code == 403
    assert as_admin.patch("/users/eve", json={"role": "admin"}).json()["role"] == "admin"
    assert nobody.get("/users", headers=headers).status_code == 200
    assert as_admin.patch("/users/eve", json={}).json()["role"] == "admin"
    assert as_admin.patch("/users/eve", json={"role": "owner"}).status_code == 422
    assert as_admin.patch("/users/eve", json={"rolle": "viewer"}).status_code == 422
    assert as_admin.patch("/users/nobody", json={"role": "viewer"}).status_code == 404


def test_an_admin_signs_somebody_out_everywhere(nobody: TestClient, as_admin: TestClient) -> None:
    sign_up(nobody, "eve")
    both = [log_in(nobody, "eve"), log_in(nobody, "eve")]
    assert as_admin.delete("/users/eve/sessions").json() == {"sessions": 2}
    assert [me(nobody, tokens) for tokens in both] == [401, 401]
    assert as_admin.delete("/users/nobody/sessions").status_code == 404


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"disabled": True}])
def test_the_last_admin_stays(as_admin: TestClient, context: Context, change: dict[str, Any]) -> None:
    first = context.settings.sleeve_username
    assert as_admin.patch(f"/users/{first}", json=change).status_code == 200
    refused = as_admin.patch("/users/ada", json=change)
    assert (refused.status_code, "last admin" in refused.json()["detail"]) == (409, True)
    assert as_admin.patch("/users/ada", json={"role": "admin", "disabled": False}).status_code == 200
    assert as_admin.get("/me").json()["role"] == "admin"


def test_two_admins_cannot_throw_each_other_out(
    as_admin: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = context.settings.sleeve_username
    users = as_admin.app.state.context.users
    looked, both = users.has_admin, threading.Barrier(2)

    def then_wait(but: Any = None) -> bool:
        found = looked(but)
        if but is not None:
            both.wait(10)
        return found

    monkeypatch.setattr(users, "has_admin", then_wait)
    threads = [
        threading.Thread(target=as_admin.patch, args=(f"/users/{name}",), kwargs={"json": {"disabled": True}})
        for name in ("ada", first)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looked()


def test_wrong_passwords_are_limited_and_lock_out_nobody_else(nobody: TestClient) -> None:
    sign_up(nobody, "eve")
    # Right ones do not count.
    for _ in range(ONE_NAME_FROM_ONE_ADDRESS.amount // 2):
        log_in(nobody, "eve")
    for _ in range(ONE_NAME_FROM_ONE_ADDRESS.amount):
        assert said(nobody, "/login", name="eve", password="not the password")[0] == 401
    refused = nobody.post("/login", json={"name": "EVE", "password": PASSWORD})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 600
    assert "Try again in" in refused.json()["detail"]
    # From elsewhere, the same moment.
    log_in(TestClient(nobody.app, client=("203.0.113.7", 1)), "eve")
    # And somebody else from here.
    sign_up(nobody, "bob")
    log_in(nobody, "bob")


def test_guessing_the_old_password_is_limited(nobody: TestClient) -> None:
    sign_up(nobody, "eve")
    tokens = log_in(nobody, "eve")
    client = TestClient(nobody.app, headers={"Authorization": f"Bearer {tokens['access_token']}"})
    tries = [
        said(client, "/me/password", old="not the password", new="four other words")[0]
        for _ in range(ONE_NAME_FROM_ONE_ADDRESS.amount + 1)
    ]
    assert tries == [403] * ONE_NAME_FROM_ONE_ADDRESS.amount + [429]


def test_sign_ups_are_limited(nobody: TestClient) -> None:
    for _ in range(SIGN_UPS.amount):
        nobody.app.state.tries.sign_up("testclient")
    answer = nobody.post("/signup", json={"name": "eve", "password": PASSWORD})
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)
    sign_up(TestClient(nobody.app, client=("203.0.113.7", 1)), "eve")


@pytest.mark.parametrize("declared", [True, False])
def test_strangers_send_no_large_bodies(nobody: TestClient, as_viewer: TestClient, declared: bool) -> None:
    large = bytes(FORM + 1)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    for client, status in ((nobody, 401), (as_viewer, 422)):
        answer = client.post("/search", content=large if declared else iter([large]), headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


def test_openapi_clients_can_sign_in(nobody: TestClient) -> None:
    schema = nobody.get("/openapi.json").json()
    schemes = schema["components"]["securitySchemes"]
    flow = next(one["flows"]["password"] for one in schemes.values() if one["type"] == "oauth2")
    bodies = schema["paths"][f"/{flow['tokenUrl']}"]["post"]["requestBody"]["content"]
    assert bodies.keys() == {"application/json", "application/x-www-form-urlencoded"}
    for model in ("NewAccount", "AccountChange", "Account"):
        properties = schema["components"]["schemas"][model]["properties"]
        assert any("examples" in one for one in properties.values()), model
