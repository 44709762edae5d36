"""Arrows point one way: dags -> plugins -> pipeline, and the library does without Airflow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Seconds and memory that the DAG processor and the triggerer must not spend on parsing.
HEAVY = {"boto3", "botocore", "cv2", "faiss", "pymongo", "confluent_kafka", "numpy", "PIL", "safetensors", "fastapi"}
# The one that imports for the tasks, and only in the processes that fork them.
PRELOAD = ROOT / "plugins" / "airflow_local_settings.py"
AIRFLOW_SIDE = sorted({*(ROOT / "dags").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")} - {PRELOAD})

IMPORT_ALL = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("airflow", "operators", "triggers", "wiring"):
            raise ImportError(f"{name} is not for the library")

sys.meta_path.insert(0, Blocked())
import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    importlib.import_module(module.name)
    print(module.name)
"""


def test_every_module_of_the_library_imports_without_airflow() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    files = [
        path
        for path in (ROOT / "pipeline").rglob("*.py")
        if path.parent != ROOT / "pipeline" or path.stem != "__init__"
    ]
    assert len(done.stdout.split()) == len(files)


class ModuleLevel(ast.NodeVisitor):
    """Top-level names of the modules that are imported when a file is: in its functions nothing runs yet."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        self.names |= {alias.name.partition(".")[0] for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.names.add((node.module or "").partition(".")[0])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        pass

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        pass

    def visit_If(self, node: ast.If) -> None:
        for statement in (
            node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else [*node.body, *node.orelse]
        ):
            self.visit(statement)


def imported(source: str) -> set[str]:
    visitor = ModuleLevel()
    visitor.visit(ast.parse(source))
    return visitor.names


@pytest.mark.parametrize("path", AIRFLOW_SIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_parsing_a_dag_stays_light(path: Path) -> None:
    names = imported(path.read_text())
    assert not names & HEAVY
    # The library's modules import the heavy ones, so they come in where a task or a trigger runs.
    assert "pipeline" not in names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import cv2.dnn", {"cv2"}),
        ("try:\n    from boto3 import client\nexcept ImportError:\n    client = None", {"boto3"}),
        ("class Operator:\n    import faiss\n    def step(self):\n        import pymongo", {"faiss"}),
        ("if TYPE_CHECKING:\n    import cv2", set()),
        ("def step():\n    import cv2", set()),
    ],
)  # fmt: skip
def test_the_check_sees_imports_at_module_level(source: str, names: set[str]) -> None:
    assert imported(source) == names
