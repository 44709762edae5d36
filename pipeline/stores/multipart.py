"""Objects that are written as a stream: in parts, in bounded memory, and there only once they are whole."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, cast

from pipeline.stores.objects import Objects

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# S3 takes at most 10,000 parts, of at least 5 MiB: objects of up to 80 GB.
PART_BYTES = 8 << 20


@contextmanager
def written(objects: Objects, bucket: str, key: str, content_type: str) -> Iterator[BinaryIO]:
    """A file to write to, without seeking. The object appears when the block ends, and not at all if it raises."""
    client = objects.client(bucket)
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType=content_type)["UploadId"]
    try:
        file = _Parts(client, bucket, key, upload)
        yield cast(BinaryIO, file)
        client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": file.finish()}
        )
    except BaseException:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise


def drop_unfinished(objects: Objects, bucket: str, prefix: str, before: datetime) -> None:
    """Remove the parts of uploads that began before then and never ended, because their process was killed."""
    client = objects.client(bucket)
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        for upload in page.get("Uploads", []):
            if upload["Initiated"] < before:
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


class _Parts(io.RawIOBase):
    def __init__(self, client: "S3Client", bucket: str, key: str, upload: str) -> None:
        self._client = client
        self._bucket, self._key, self._upload = bucket, key, upload
        self._waiting = bytearray()
        self._parts: list[CompletedPartTypeDef] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        piece = memoryview(data).cast("B")
        self._waiting += piece
        while len(self._waiting) >= PART_BYTES:
            self._send(PART_BYTES)
        return len(piece)

    def finish(self) -> list["CompletedPartTypeDef"]:
        """Send what is left, and say what was sent."""
        if self._waiting or not self._parts:
            self._send(len(self._waiting))
        return self._parts

    def _send(self, size: int) -> None:
        number = len(self._parts) + 1
        body = bytes(self._waiting[:size])
        answer = self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload, PartNumber=number, Body=body
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        del self._waiting[:size]
