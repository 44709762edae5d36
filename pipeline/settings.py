"""All settings of Sleeve, in one typed object.

Looked up in this order: arguments, environment, the file that ``make up`` writes for its local servers, the ``[AWS]``
section of ``configurations/annotation.config``, defaults. Nothing else in the package reads the environment.
"""

import configparser
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote_plus

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pipeline.errors import MissingSetting

ROOT = Path(__file__).resolve().parent.parent
LOCAL_SERVERS_FILE = ROOT / ".devstack" / "state" / "env"
INI_FILE = Path("configurations") / "annotation.config"
INI_NAMES = {
    "ACCESS_KEY": "s3_access_key_id",
    "SECRET_KEY": "s3_secret_access_key",
    "REGION": "s3_region",
    "BUCKET_NAME": "s3_bucket",
    "LABELED_IMAGE_BUCKET_NAME": "labeled_image_bucket_name",
}


class AnnotationConfig(PydanticBaseSettingsSource):
    """The ``[AWS]`` section of the INI file that image-annotation-pipeline users already have."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("values are read all at once")

    def __call__(self) -> dict[str, Any]:
        path = Path(os.environ.get("SLEEVE_CONFIG", ROOT / INI_FILE))
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(path)
        if not parser.has_section("AWS"):
            return {}
        section = parser["AWS"]
        return {field: section[name] for name, field in INI_NAMES.items() if section.get(name)}


def _either(*names: str) -> Any:
    return Field(default=None, validation_alias=AliasChoices(*names))


class Settings(BaseSettings):
    """Names are those that users of the replaced systems know; the environment variable is the name in capitals."""

    model_config = SettingsConfigDict(
        env_file=LOCAL_SERVERS_FILE, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    # Features and search
    sift_dimensions: int = Field(128, ge=128, le=128, description="Length of a SIFT descriptor; always 128.")
    num_features: int = Field(500, ge=16, le=4095, description="Most keypoints kept per picture.")
    nor_x: int = Field(512, ge=64, le=2048, description="Pictures are fitted, never stretched, to max(NOR_X, NOR_Y).")
    nor_y: int = Field(512, ge=64, le=2048)
    top_n: int = Field(5, ge=1, le=100, description="Most answers of one search.")
    similarity_threshold: float = Field(0.5, ge=0, le=1, description="Answers below this score are not given.")
    retraining_interval: int = Field(50_000, ge=1, description="Images added since training that make a rebuild due.")
    index_memory_mb: int = Field(4096, ge=1, description="Of one served generation; a swap holds two for a moment.")
    search_budget_ms: float = Field(25, gt=0, description="Wish for the first stage of a search, on one core.")
    keep_generations: int = Field(5, ge=1, description="Generations that one can roll back to, the current included.")
    recall_margin: float = Field(0.05, ge=0, le=1, description="A publish that falls by more than this is blocked.")

    # What may come in
    max_image_bytes: int = Field(64 << 20, ge=1, description="Larger files are quarantined unread.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Larger pictures are quarantined undecoded.")
    max_bulk_bytes: int = Field(1 << 30, ge=1, description="One bulk upload, of files or an archive, over HTTP.")
    max_archive_bytes: int = Field(64 << 30, ge=1, description="An archive may unpack to at most this much.")
    shard_images: int = Field(500, ge=1, le=10_000, description="Images that one mapped task works on.")
    drain_limit: int = Field(20_000, ge=1, le=32_000, description="Messages and images that one run takes at most.")

    # Object store
    s3_endpoint_url: str | None = Field(None, description="Only for servers that are not AWS.")
    s3_access_key_id: str | None = _either("S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID")
    s3_secret_access_key: SecretStr | None = _either("S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY")
    s3_region: str | None = _either("S3_REGION", "AWS_REGION")
    s3_bucket: str | None = _either("S3_BUCKET", "AWS_BUCKET_NAME")
    sleeve_bucket: str = Field("sleeve", description="Segments, generations and shard manifests.")
    sleeve_s3_endpoint_url: str | None = Field(None, description="Where SLEEVE_BUCKET is, if not at S3_ENDPOINT_URL.")
    labeled_image_bucket_name: str | None = None

    # Catalogue
    mongodb_uri: str | None = None
    atlas_cluster_username: str | None = None
    atlas_cluster_password: SecretStr | None = None
    atlas_cluster_host: str | None = Field(None, description="For example cluster0.ab1cd.mongodb.net")
    database_name: str = "sleeve"

    # Events
    kafka_bootstrap_servers: str | None = None
    kafka_topic: str = "images"
    kafka_group: str = "sleeve-ingest"
    kafka_dead_letter_topic: str = "images-dead-letter"
    sqs_queue_url: str | None = None

    # People
    jwt_secret: SecretStr | None = Field(None, min_length=32, description="Signs access tokens; the same everywhere.")
    signup_role: Literal["viewer", "annotator", "closed"] = Field("annotator", description="Of who signs up.")
    metrics_token: SecretStr | None = Field(None, description="Lets a scraper read /metrics without an account.")
    redis_url: str | None = Field(None, description="A cache that replicas share; without it each has its own.")

    # Around us
    airflow_api_url: str | None = None
    airflow_username: str | None = None
    airflow_password: SecretStr | None = None
    airflow_public_url: str | None = Field(None, description="Where browsers find Airflow, if not at AIRFLOW_API_URL.")
    sleeve_api_url: str | None = None
    sleeve_public_url: str | None = Field(None, description="Where browsers find Sleeve, if not at SLEEVE_API_URL.")
    sleeve_username: str | None = Field(None, description="Whom commands sign in as where they talk to the API.")
    sleeve_password: SecretStr | None = None
    sleeve_home: Path = Field(ROOT / ".devstack" / "state" / "sleeve", description="Local cache; may be deleted.")
    backup_folder: str = "backups"
    debug: bool = Field(False, description="Let the command line say what it does, in detail.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        local_servers: PydanticBaseSettingsSource = dotenv_settings
        if path := os.environ.get("SLEEVE_ENV_FILE"):
            local_servers = DotEnvSettingsSource(settings_cls, env_file=path)
        return init_settings, env_settings, local_servers, AnnotationConfig(settings_cls)

    @model_validator(mode="after")
    def _atlas_means_mongodb(self) -> "Settings":
        if self.mongodb_uri is None and self.atlas_cluster_username and self.atlas_cluster_host:
            password = self.atlas_cluster_password.get_secret_value() if self.atlas_cluster_password else ""
            user = f"{quote_plus(self.atlas_cluster_username)}:{quote_plus(password)}"
            self.mongodb_uri = f"mongodb+srv://{user}@{self.atlas_cluster_host}/?retryWrites=true&w=majority"
        return self

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Settings":
        """Settings as these environment variables give them; what they leave out is looked up as usual."""
        values: dict[str, Any] = {name.lower(): value for name, value in environment.items()}
        return cls(**values)

    @cached_property
    def image_side(self) -> int:
        """Longer side, in pixels, of the picture that is handed to SIFT; the aspect ratio is kept."""
        return max(self.nor_x, self.nor_y)

    def require_secret(self, name: str) -> str:
        """The value of a secret that has no default; MissingSetting says where to put it."""
        value: SecretStr | None = getattr(self, name)
        return self.require(name) if value is None else value.get_secret_value()

    def require(self, name: str) -> str:
        """The value of a setting that has no default; MissingSetting says where to put it."""
        value = getattr(self, name)
        if value is None:
            raise MissingSetting(
                f"{name.upper()} is not set. Run `make up` to start local servers, or set it in the environment."
            )
        return str(value)
