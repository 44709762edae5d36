"""A user of a real Airflow signs in at Sleeve with the Airflow password."""

from fastapi.testclient import TestClient

from devstack.stack import Stack
from pipeline.api.app import create_app
from pipeline.settings import Settings


def test_the_admin_of_airflow_is_an_admin_here(whole: Stack) -> None:
    settings = Settings.of(whole.env)
    # The stack's own first admin has the same name, and is asked before Airflow.
    own = {"database_name": "airflow-users", "sleeve_username": None}
    name, password = settings.require("airflow_username"), settings.require_secret("airflow_password")
    with TestClient(create_app(settings.model_copy(update=own))) as client:
        wrong = client.post("/login", json={"name": name, "password": "not the password"})
        assert (wrong.status_code, wrong.json()["detail"]) == (401, "The name or the password is wrong.")
        answer = client.post("/login", json={"name": name, "password": password})
        assert answer.status_code == 200, answer.text
        me = client.get("/me", headers={"Authorization": f"Bearer {answer.json()['access_token']}"}).json()
        assert (me["name"], me["role"], me["source"]) == (name, "admin", "airflow")
        client.app.state.context.catalog.client.drop_database("airflow-users")
