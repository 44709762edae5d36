"""`sleeve user` as an admin types it, on real servers."""

import json
import subprocess
import sys

import pytest

from pipeline.accounts.passwords import sign_in
from pipeline.accounts.sessions import open_session, resume
from pipeline.context import Context
from pipeline.errors import NotSignedIn

PASSWORD = "four words and a comma"


def sleeve_user(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "user", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)


def test_an_account_from_beginning_to_end(environment: Context) -> None:
    users, settings = environment.users, environment.settings
    made = sleeve_user("add", "Ann", "--role", "admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert made.returncode == 0, made.stderr
    assert sign_in(settings, users, "ann", PASSWORD).role == "admin"
    assert PASSWORD not in made.stdout + made.stderr

    taken = sleeve_user("add", "ann", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert (taken.returncode, "taken" in taken.stderr) == (1, True)
    last = sleeve_user("role", "ann", "viewer")
    assert (last.returncode, "last admin" in last.stderr) == (1, True)

    assert sleeve_user("add", "bob", "--password-stdin", stdin=PASSWORD).returncode == 0
    assert sleeve_user("role", "bob", "viewer").returncode == 0
    bob = users.find("bob")
    assert bob
    held = open_session(users, bob)
    new = sleeve_user("password", "bob", "--password-stdin", stdin="another password\n")
    assert new.returncode == 0, new.stderr
    with pytest.raises(NotSignedIn):
        resume(users, held)
    with pytest.raises(NotSignedIn):
        sign_in(settings, users, "bob", PASSWORD)
    sign_in(settings, users, "bob", "another password")

    assert sleeve_user("disable", "bob").returncode == 0
    listed = json.loads(sleeve_user("list", "--json").stdout)["users"]
    assert [(one["name"], one["role"], one["disabled"]) for one in listed] == [
        ("Ann", "admin", False),
        ("bob", "viewer", True),
    ]
    assert "disabled" in sleeve_user("list").stdout
    assert sleeve_user("enable", "bob").returncode == 0
    sign_in(settings, users, "bob", "another password")


def test_what_cannot_be_is_said_in_a_sentence(environment: Context) -> None:
    for arguments, stdin, said in (
        (("add", "x", "--password-stdin"), PASSWORD, "3 to 64 letters"),
        (("add", "ann", "--password-stdin"), "short\n", "10 to 200 characters"),
        (("password", "nobody", "--password-stdin"), PASSWORD, "no user nobody"),
        (("role", "nobody", "admin"), "", "no user nobody"),
    ):
        done = sleeve_user(*arguments, stdin=stdin)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert list(environment.users.everybody()) == []
    # Not on the command line, where everybody reads it.
    assert sleeve_user("add", "ann", "--password", PASSWORD).returncode == 2
