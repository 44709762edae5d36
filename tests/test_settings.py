"""Where settings come from, which source wins, and the names that users of the replaced systems know."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import MissingSetting
from pipeline.settings import Settings

INI = """\
[AWS]
ACCESS_KEY=ini-key
SECRET_KEY=ini%secret
REGION=eu-central-1
BUCKET_NAME=ini-bucket
LABELED_IMAGE_BUCKET_NAME=ini-labeled
"""


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings but the test's own: `file` and `ini` in the returned folder."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "S3_", "ATLAS_", "SLEEVE_", "KAFKA_", "SQS_", "MONGODB_", "TOP_", "DATABASE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLEEVE_ENV_FILE", str(tmp_path / "file"))
    monkeypatch.setenv("SLEEVE_CONFIG", str(tmp_path / "ini"))
    return tmp_path


def test_order_of_sources(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().s3_bucket is None
    (bare / "ini").write_text(INI)
    assert Settings().s3_bucket == "ini-bucket"
    (bare / "file").write_text("S3_BUCKET=file-bucket\n")
    assert Settings().s3_bucket == "file-bucket"
    monkeypatch.setenv("S3_BUCKET", "env-bucket")
    assert Settings().s3_bucket == "env-bucket"
    assert Settings(s3_bucket="argument").s3_bucket == "argument"


@pytest.mark.parametrize(("in_env", "in_file"), [("AWS", "S3"), ("S3", "AWS"), ("AWS", "AWS"), ("S3", "S3")])
def test_environment_wins_whichever_name_it_uses(
    bare: Path, monkeypatch: pytest.MonkeyPatch, in_env: str, in_file: str
) -> None:
    (bare / "file").write_text(f"{in_file}_ACCESS_KEY_ID=from-file\n{in_file}_REGION=from-file\n")
    monkeypatch.setenv(f"{in_env}_ACCESS_KEY_ID", "from-env")
    assert Settings().s3_access_key_id == "from-env"
    assert Settings().s3_region == "from-file"
    assert Settings(s3_access_key_id="argument").s3_access_key_id == "argument"


def test_ini_file(bare: Path) -> None:
    (bare / "ini").write_text(INI)
    settings = Settings()
    assert settings.s3_access_key_id == "ini-key"
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == "ini%secret"
    assert settings.s3_region == "eu-central-1"
    assert settings.labeled_image_bucket_name == "ini-labeled"


def test_ini_file_with_other_sections_and_empty_values(bare: Path) -> None:
    (bare / "ini").write_text("[OTHER]\nx=1\n")
    assert Settings().s3_bucket is None
    (bare / "ini").write_text("[AWS]\nBUCKET_NAME=\nREGION=r\n")
    assert (Settings().s3_bucket, Settings().s3_region) == (None, "r")


@pytest.mark.parametrize("prefix", ["S3", "AWS"])
def test_names_of_object_store_settings(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv(f"{prefix}_ACCESS_KEY_ID", "key")
    monkeypatch.setenv(f"{prefix}_SECRET_ACCESS_KEY", "not for logs")
    monkeypatch.setenv(f"{prefix}_REGION", "region")
    monkeypatch.setenv("S3_BUCKET" if prefix == "S3" else "AWS_BUCKET_NAME", "bucket")
    settings = Settings()
    assert (settings.s3_access_key_id, settings.s3_region, settings.s3_bucket) == ("key", "region", "bucket")
    assert settings.require("s3_secret_access_key") != "not for logs"  # masked, should it ever be printed
    assert "not for logs" not in repr(settings)


def test_names_of_the_search_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "SIFT_DIMENSIONS": "128", "SIMILARITY_THRESHOLD": "0.25", "NUM_FEATURES": "300", "NOR_X": "256", "NOR_Y": "640",
        "TOP_N": "9", "RETRAINING_INTERVAL": "1000", "BACKUP_FOLDER": "elsewhere", "DEBUG": "True",
        "SQS_QUEUE_URL": "http://127.0.0.1/q", "DATABASE_NAME": "vinyl",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.sift_dimensions == 128
    assert settings.similarity_threshold == 0.25
    assert (settings.num_features, settings.top_n, settings.retraining_interval) == (300, 9, 1000)
    assert settings.image_side == 640
    assert (settings.backup_folder, settings.debug) == ("elsewhere", True)
    assert (settings.sqs_queue_url, settings.database_name) == ("http://127.0.0.1/q", "vinyl")


def test_atlas_names_make_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_CLUSTER_USERNAME", "me@home")
    monkeypatch.setenv("ATLAS_CLUSTER_PASSWORD", "p:/?#w")
    assert Settings().mongodb_uri is None
    monkeypatch.setenv("ATLAS_CLUSTER_HOST", "cluster0.ab1cd.mongodb.net")
    address = "mongodb+srv://me%40home:p%3A%2F%3F%23w@cluster0.ab1cd.mongodb.net/?retryWrites=true&w=majority"
    assert Settings().mongodb_uri == address
    monkeypatch.setenv("MONGODB_URI", "mongodb://elsewhere")
    assert Settings().mongodb_uri == "mongodb://elsewhere"


def test_empty_variables_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOP_N", "")
    monkeypatch.setenv("S3_BUCKET", "")
    assert (Settings().top_n, Settings().s3_bucket) == (5, None)


@pytest.mark.parametrize(("name", "value"), [("TOP_N", "0"), ("SIFT_DIMENSIONS", "64"), ("NUM_FEATURES", "many")])
def test_value_out_of_range_names_the_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=f"(?i){name}"):
        Settings()


def test_missing_setting_says_what_to_do() -> None:
    with pytest.raises(MissingSetting, match=r"S3_BUCKET is not set.*make up.*environment"):
        Settings().require("s3_bucket")
    assert Settings(s3_bucket="b").require("s3_bucket") == "b"
