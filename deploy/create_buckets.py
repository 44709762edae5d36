"""Create the two buckets where they are missing. On AWS, Terraform does this."""

from pipeline.settings import Settings
from pipeline.stores.objects import Objects

settings = Settings()
objects = Objects(settings)
for bucket in (settings.require("s3_bucket"), settings.sleeve_bucket):
    client = objects.client(bucket)
    if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
