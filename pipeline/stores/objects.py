"""The object store: any server that speaks S3. The only module that talks to it."""

import contextlib
import os
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline.errors import BadImage, BadSource, ObjectMissing
from pipeline.events import BUCKET_NAME
from pipeline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# One connection for each of the threads that one task reads with, and a few to spare.
CONNECTIONS = 32
STREAMED = 256 << 10
FORBIDDEN = {"403", "AccessDenied", "Forbidden"}
MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NotFound", "KeyTooLongError"}


@dataclass(frozen=True)
class StoredObject:
    """What the store says about one object. `etag` comes without the quotes that some servers put around it."""

    key: str
    etag: str
    size: int
    modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)


class Objects:
    """A thread-safe client of S3, with finite time-outs and retries on what is worth a retry."""

    def __init__(self, settings: Settings) -> None:
        # One session for both clients: it reads the description of S3, a tenth of a second, only once.
        session = boto3.session.Session()
        self._client = _client(session, settings, settings.s3_endpoint_url)
        self._own_bucket = settings.sleeve_bucket
        self._ours = {settings.s3_bucket, settings.sleeve_bucket}
        own_endpoint = settings.sleeve_s3_endpoint_url
        self._own_client = _client(session, settings, own_endpoint) if own_endpoint else self._client

    def client(self, bucket: str) -> "S3Client":
        """The boto3 client that reaches `bucket`."""
        return self._own_client if bucket == self._own_bucket else self._client

    def ping(self, bucket: str) -> None:
        """Raise when the bucket cannot be reached."""
        self.client(bucket).head_bucket(Bucket=bucket)

    def head(self, bucket: str, key: str, version_id: str | None = None) -> StoredObject | None:
        """What the store knows of an object; None when there is no such object."""
        version = {"VersionId": version_id} if version_id else {}
        try:
            answer = self.client(bucket).head_object(Bucket=bucket, Key=key, **version)  # type: ignore[arg-type]
        except ClientError as error:
            if self._says_missing(error, bucket):
                return None
            raise
        return StoredObject(
            key, answer["ETag"].strip('"'), answer["ContentLength"], answer["LastModified"], answer["Metadata"]
        )

    def get(self, bucket: str, key: str) -> bytes:
        """The whole object. Raises ObjectMissing."""
        with self._missing_named(bucket, key):
            return self.client(bucket).get_object(Bucket=bucket, Key=key)["Body"].read()

    def fetch(self, bucket: str, key: str, max_bytes: int) -> tuple[bytes, str]:
        """(bytes, ETag) of an object of at most `max_bytes`; a larger one raises BadImage before it is read."""
        try:
            with self._missing_named(bucket, key):
                answer = self.client(bucket).get_object(Bucket=bucket, Key=key)
        except self.client(bucket).exceptions.InvalidObjectState:
            raise BadImage("in an archive tier of S3; restore it, then copy it onto itself") from None
        if answer["ContentLength"] > max_bytes:
            answer["Body"].close()
            raise BadImage(f"larger than {max_bytes} bytes ({answer['ContentLength']} bytes)")
        return answer["Body"].read(), answer["ETag"].strip('"')

    def stream(self, bucket: str, key: str) -> tuple[Generator[bytes], int, str]:
        """(chunks, bytes in all, ETag) of an object, read as it is asked for. Raises ObjectMissing."""
        with self._missing_named(bucket, key):
            answer = self.client(bucket).get_object(Bucket=bucket, Key=key)

        def chunks() -> Generator[bytes]:
            with contextlib.closing(answer["Body"]) as body:
                yield from body.iter_chunks(STREAMED)

        return chunks(), answer["ContentLength"], answer["ETag"].strip('"')

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | IO[bytes],
        content_type: str = "application/octet-stream",
        **metadata: str,
    ) -> str:
        """Store an object and return its ETag. Metadata values must be ASCII."""
        answer = self.client(bucket).put_object(
            Bucket=bucket, Key=key, Body=data, ContentType=content_type, Metadata=metadata
        )
        return answer["ETag"].strip('"')

    def upload(self, bucket: str, key: str, path: Path) -> None:
        """Store a file; large ones go up in parts."""
        self.client(bucket).upload_file(str(path), bucket, key)

    def download(self, bucket: str, key: str, path: Path) -> None:
        """Write an object to `path`, which exists either whole or not at all. Raises ObjectMissing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file, self._missing_named(bucket, key):
                self.client(bucket).download_fileobj(bucket, key, file)
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)

    def exists(self, bucket: str, key: str) -> bool:
        return self.head(bucket, key) is not None

    def delete(self, bucket: str, key: str) -> None:
        self.client(bucket).delete_object(Bucket=bucket, Key=key)

    def pages(self, bucket: str, prefix: str = "", start_after: str = "") -> Iterator[list[StoredObject]]:
        """Listing pages (at most 1,000 objects each) in key order, after the key `start_after`."""
        paginator = self.client(bucket).get_paginator("list_objects_v2")
        with self._missing_named(bucket, prefix):
            for page in paginator.paginate(Bucket=bucket, Prefix=prefix, StartAfter=start_after):
                yield [
                    StoredObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"], entry["LastModified"])
                    for entry in page.get("Contents", [])
                ]

    def _says_missing(self, error: ClientError, bucket: str) -> bool:
        code = error.response["Error"]["Code"]
        if code == "400":
            # No reason given: the server refuses us (an expired token), or a key or version that it could never hold.
            # If it lets us at the bucket, it is the latter.
            self.ping(bucket)
            return True
        # A bucket that is none of ours and that we may not read: to us there is nothing in it.
        return code in MISSING or (code in FORBIDDEN and bucket not in self._ours)

    @contextlib.contextmanager
    def _missing_named(self, bucket: str, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if self._says_missing(error, bucket):
                raise ObjectMissing(f"no object s3://{bucket}/{key}") from error
            raise


def _client(session: boto3.session.Session, settings: Settings, endpoint: str | None) -> "S3Client":
    secret = settings.s3_secret_access_key
    # Without the keys boto3 looks for an instance role or a profile, which is what one wants on AWS.
    return session.client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 5},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path" if endpoint else "auto"},
        ),
    )


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """``s3://bucket/key/or/prefix`` as (bucket, key). The key is taken as it stands, with nothing decoded."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not BUCKET_NAME.fullmatch(bucket):
        raise BadSource(f"{uri!r} is not an S3 address; write s3://bucket/prefix")
    return bucket, key.lstrip("/")
