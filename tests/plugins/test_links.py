"""The plugin as Airflow loads it, and where the links of a task lead."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from links import DuplicatesLink, GenerationLink, ImagesLink, ImportedImagesLink, QuarantineLink
from operators.duplicates import CompareOperator, RegroupOperator
from operators.imports import ImportOperator
from operators.index import AppendOperator, EvaluateOperator, MergeOperator, PublishOperator
from operators.ingest import CollectOperator, DrainOperator, ExtractOperator

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = "https://example.org/sleeve/"
ONE, TWO = "20240531T183000000000-0a1b2c3d", "20240531T183500000000-4e5f6071"

# In a process of its own: Airflow reads its configuration once, when it is first imported.
LOAD = """
import json
from airflow import plugins_manager
views = {one["name"]: one["external_views"] for one in plugins_manager.get_plugin_info()}
print("RESULT " + json.dumps({"views": views, "errors": plugins_manager.get_import_errors()}))
"""


def loaded(home: Path, **environment: str) -> dict[str, Any]:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLEEVE_")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
        "SLEEVE_ENV_FILE": str(home / "none"),
        **environment,
    }
    done = subprocess.run([sys.executable, "-c", LOAD], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def test_the_navigation_leads_to_sleeve_where_browsers_find_it(tmp_path: Path) -> None:
    found = loaded(tmp_path, SLEEVE_PUBLIC_URL=PUBLIC, SLEEVE_API_URL="http://api:5002")
    assert found["errors"] == {}
    views = {one["name"]: one for one in found["views"]["sleeve"]}
    assert {name: one["href"] for name, one in views.items()} == {
        "Sleeve": "https://example.org/sleeve/ui/",
        "Annotate": "https://example.org/sleeve/ui/annotate",
        "Quarantine": "https://example.org/sleeve/ui/quarantine",
    }
    # An entry with a route of its own would be shown inside of Airflow.
    assert all(one["destination"] == "nav" and "url_route" not in one for one in views.values())


def test_without_an_address_there_is_no_entry_and_no_error(tmp_path: Path) -> None:
    assert loaded(tmp_path) == {"views": {"sleeve": []}, "errors": {}}


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLEEVE_ENV_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SLEEVE_PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("SLEEVE_API_URL", "http://api:5002")


def lead(link: BaseOperatorLink, result: object = None, **operator: object) -> str:
    """Where a link leads when the task of this operator has returned `result`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(XCom, "get_value", lambda **_: result)
        return link.get_link(SimpleNamespace(**operator), ti_key=None)


def uri(generation: str) -> str:
    return f"s3://sleeve/generations/{generation}/manifest.json"


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    ("link", "result", "operator", "address"),
    [
        (ImagesLink(), None, {}, "/browse"),
        (QuarantineLink(), None, {}, "/quarantine"),
        (DuplicatesLink(), None, {}, "/browse?duplicates=1"),
        (ImportedImagesLink(), None, {"source": "s3://b/a b/?&ü"}, "/browse?source=s3%3A%2F%2Fb%2Fa+b%2F%3F%26%C3%BC"),
        (ImportedImagesLink(), None, {"source": "/data/covers.zip"}, "/browse?source=covers.zip"),
        # append and merge return what they made
        (GenerationLink(), uri(ONE), {}, f"/generations#{ONE}"),
        # evaluate returns recall of what it was given
        (GenerationLink(), {"recall_at_1": 1.0}, {"generation": uri(ONE)}, f"/generations#{ONE}"),
        # publish may have had to make another one than it was given
        (GenerationLink(), {"generation": TWO, "published": True}, {"generation": uri(ONE)}, f"/generations#{TWO}"),
        # a task that was skipped, or failed
        (GenerationLink(), None, {"generation": None}, "/generations"),
    ],
)
def test_a_link_opens_the_page_that_shows_what_the_task_did(
    link: BaseOperatorLink, result: object, operator: dict[str, object], address: str
) -> None:
    assert lead(link, result, **operator) == f"https://example.org/sleeve/ui{address}"


def test_links_lead_to_the_api_where_there_is_no_public_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLEEVE_ENV_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("SLEEVE_PUBLIC_URL", raising=False)
    monkeypatch.setenv("SLEEVE_API_URL", "http://127.0.0.1:5002")
    assert lead(ImagesLink()) == "http://127.0.0.1:5002/ui/browse"
    monkeypatch.delenv("SLEEVE_API_URL")
    assert lead(ImagesLink()) == lead(GenerationLink(), uri(ONE)) == ""


@pytest.mark.parametrize(
    ("operator", "names"),
    [
        (DrainOperator, ["Images", "Quarantine"]),
        (CollectOperator, ["Images", "Quarantine"]),
        (ExtractOperator, ["Images", "Quarantine"]),
        (AppendOperator, ["Generation"]),
        (MergeOperator, ["Generation"]),
        (EvaluateOperator, ["Generation"]),
        (PublishOperator, ["Generation"]),
        (ImportOperator, ["Imported images"]),
        (CompareOperator, ["Near-duplicates"]),
        (RegroupOperator, ["Near-duplicates"]),
    ],
)
def test_operators_have_their_links(operator: Any, names: list[str]) -> None:
    assert [link.name for link in operator.operator_extra_links] == names
