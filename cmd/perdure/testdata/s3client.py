"""Uses each operation of S3 once, in one attempt, and prints how each ended. The address and the key are in the environment."""

import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

MIB = 1 << 20
work, bucket = sys.argv[1], "bikes"
s3 = boto3.client("s3", config=Config(retries={"total_max_attempts": 1, "mode": "standard"}))
parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=2, num_download_attempts=1)
body = bytes(range(256)) * 1024
large = os.path.join(work, "large")
with open(large, "wb") as f:
    f.write(body * 44)


def get():
    assert s3.get_object(Bucket=bucket, Key="seed")["Body"].read() == body


def download():
    s3.download_file(bucket, "seed-large", large + ".back", Config=parts)
    with open(large, "rb") as a, open(large + ".back", "rb") as b:
        assert a.read() == b.read()


def listing():
    assert {"seed", "seed-large"} <= {o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}


def refused():
    try:
        s3.put_object(Bucket=bucket, Key="seed", Body=b"other", IfNoneMatch="*")
    except s3.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == "PreconditionFailed", e
    else:
        raise AssertionError("an object was replaced")


for name, operation in {
    "put": lambda: s3.put_object(Bucket=bucket, Key="put", Body=body),
    "put once": lambda: s3.put_object(Bucket=bucket, Key="once", Body=body[:1024], IfNoneMatch="*"),
    "put refused": refused,
    "get": get,
    "head": lambda: s3.head_object(Bucket=bucket, Key="seed"),
    "multipart up": lambda: s3.upload_file(large, bucket, "parts", Config=parts),
    "multipart down": download,
    "copy": lambda: s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "seed"}),
    "list": listing,
    "delete": lambda: s3.delete_object(Bucket=bucket, Key="seed-gone"),
    "delete several": lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "seed-gone-too"}]}),
}.items():
    try:
        operation()
        print(f"{name}: ok")
    except Exception as e:  # each is reported
        print(f"{name}: {type(e).__name__}: {e}")
