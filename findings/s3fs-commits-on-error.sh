#!/bin/bash
# s3fs: an exception inside `with fs.open(...)` publishes the half-written object.
#
# Guess:    an object store shows an object when its upload is complete; a writer that raises leaves nothing, or the old object.
# Reality:  the file object of fsspec, which s3fs builds on, is closed on the way out of the block, and closing finishes the
#           upload: of a small object, and of a multipart upload as well. The truncated object replaces the good one, and
#           nothing in the store shows that it is short. smart_open aborts the upload, and the old object stays.
# Versions: s3fs and fsspec 2026.9.0, smart_open 9.0.2, against moto 5.2.5.
# Hurts:    backups streamed to S3: the source fails in the middle, the job reports it, and a shorter archive with the time
#           stamp of today stands where yesterday's was.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib \
  s3fs==2026.9.0 fsspec==2026.9.0 'moto[s3,server]==5.2.5' smart_open==9.0.2 boto3==1.43.117 >pip.log 2>&1
export PYTHONPATH=$work/lib AWS_ACCESS_KEY_ID=k AWS_SECRET_ACCESS_KEY=s AWS_DEFAULT_REGION=us-east-1
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
python3 - 2>server.log <<'PY'
import boto3, fsspec, moto, s3fs, smart_open, sys
from moto.server import ThreadedMotoServer

print("s3fs", s3fs.__version__, "fsspec", fsspec.__version__, "smart_open", smart_open.__version__, "moto", moto.__version__)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
url = "http://127.0.0.1:%d" % server.get_host_and_port()[1]
client = boto3.client("s3", endpoint_url=url)
client.create_bucket(Bucket="backups")
files = s3fs.S3FileSystem(endpoint_url=url, skip_instance_cache=True)
MIB = 1 << 20

def by_s3fs(key):
    return files.open("backups/" + key, "wb")

def by_smart_open(key):
    return smart_open.open("s3://backups/" + key, "wb", transport_params={"client": client})

def stored_after_failure(opener, key, size):
    """Puts a good object of 20 MiB, then replaces it by a writer that fails after `size` bytes."""
    client.put_object(Bucket="backups", Key=key, Body=b"g" * 20 * MIB)
    try:
        with opener(key) as out:
            out.write(b"n" * size)
            raise OSError("the source failed")
    except OSError as error:
        assert str(error) == "the source failed", error
    return client.head_object(Bucket="backups", Key=key)["ContentLength"]

so = True
for name, opener, kept in (("s3fs", by_s3fs, False), ("smart_open", by_smart_open, True)):
    for size in (1000, 12 * MIB):
        stored = stored_after_failure(opener, f"{name}-{size}", size)
        print(f"{name}, failed after {size} bytes: the store has {stored} bytes")
        so = so and stored == (20 * MIB if kept else size)
server.stop()
sys.exit(0 if so else "no longer so: expected s3fs to replace the object and smart_open to keep it")
PY
