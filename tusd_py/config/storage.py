"""The settings of where uploads go, and of how two requests are kept apart."""

from __future__ import annotations

from dataclasses import dataclass

from tusd_py.config.kinds import Choice, Duration, Number, Path, Permission, Size, Switch, Text, Url, setting

GROUPS = DISK, S3, LOCKS = "Disk", "S3", "Locks"

SWITCH = Switch()

ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A part of `settings.Config`."""

    upload_dir: str = setting(
        "./data", Path(may_be_empty=False), DISK,
        "Directory for uploads, each as <id> and <id>.info. Relative to the working directory.",
    )  # fmt: skip
    durability: str = setting(
        "power", Choice("power", "process"), DISK,
        "What an acknowledged byte survives. power: data and record are on the disk (fsync) before an offset is"
        " answered, so loss of power loses nothing. process: survives kill -9 of the server, but not loss of power; the"
        " disk is not waited for. The price, measured on two cores with a virtual disk: 600 instead of 1,390 MiB/s for"
        " 1 GiB in one PATCH, 460 instead of 1,100 in pieces of 8 MiB, 730 instead of 2,320 uploads of 4 KiB a second.",
        differs="tusd: no such setting; it promises what process does. An answered offset is a promise, and a client"
        " that was answered throws its copy away.",
    )  # fmt: skip
    dir_perms: int = setting(
        0o775, Permission(0o700), DISK,
        "Mode of directories that are created, in octal; the umask still applies.",
    )  # fmt: skip
    file_perms: int = setting(
        0o664, Permission(0o600), DISK,
        "Mode of files that are created, in octal; the umask still applies.",
    )  # fmt: skip

    s3_bucket: str = setting(
        "", Text("the name of a bucket"), S3,
        "Bucket of S3, or of what speaks like it, for uploads; when set, it wins over upload-dir. Needs pip install"
        " 'tusd-py[s3]'. Credentials and region are found as by boto3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and"
        " AWS_REGION, a profile, or the role of the machine.",
    )  # fmt: skip
    s3_object_prefix: str = setting(
        "", Text("text that object keys may begin with"), S3,
        "What the keys of all objects begin with, as in uploads/. What does not begin with it is never touched.",
    )  # fmt: skip
    s3_endpoint: str = setting(
        "", Url(), S3,
        "URL of the storage, as in http://127.0.0.1:9000 or https://s3.example.com; the bucket then stands in the path."
        " Empty: Amazon, in the region that was found.",
    )  # fmt: skip
    s3_part_size: int = setting(
        8 * 2**20, Size(5 * 2**20, 5 * 2**30), S3,
        "Size of the parts that an upload is sent in, in bytes; larger where 10,000 of them would not hold it: 8 MiB up"
        " to 23 GiB. Twice that while a client outpaces the storage. An upload that fits into one is one object"
        " from the start.",
        differs="tusd: 50 MiB. A part is held in memory while it is sent, and what the last whole part leaves over is"
        " written again with the next PATCH: smaller ones cost less of both.",
    )  # fmt: skip
    s3_min_part_size: int = setting(
        5 * 2**20, Size(5 * 2**20, 5 * 2**30), S3,
        "Smallest part that the storage takes, but for the last one.",
    )  # fmt: skip
    s3_concurrent_part_uploads: int = setting(
        10, Number(1, 1000), S3,
        "How many parts a worker sends at once, of all uploads together; a client that is silent keeps none of them"
        " from others.",
    )  # fmt: skip
    s3_max_buffered_parts: int = setting(
        4, Number(2, 10_000), S3,
        "How many parts of one upload may be waiting to be sent, or being sent; then its client waits. More than 4 are"
        " no faster on a network without delays; on one with 50 ms to the storage try 10.",
        differs="tusd: 20, which are files of 50 MiB.",
    )  # fmt: skip
    s3_memory: int = setting(
        128 * 2**20, Size(16 * 2**20), S3,
        "Memory of a worker for bytes on their way to the storage. Where it does not suffice, clients with parts under"
        " way wait for these, and what others sent goes to files in s3-temporary-dir. The rest of a worker takes up to"
        " 80 MiB.",
        differs="tusd: no such setting; each PATCH may write 20 parts to the disk, 1 GiB.",
    )  # fmt: skip
    s3_temporary_dir: str = setting(
        "", Path(may_be_empty=True), S3,
        "Directory for such files; they have no names and are gone with the process. Those of uploads that wait for"
        " their next PATCH take up to twice s3-memory. Empty: that of the system.",
        differs="tusd: no such setting; that of the system.",
    )  # fmt: skip
    s3_object_key: str = setting(
        "{id}", Text("a template such as {date:%Y/%m}/{id}/{metadata[filename]}"), S3,
        "Key of an upload's object, after s3-object-prefix: {id} (once, so that none replaces another), {date} of its"
        " creation in UTC, in any form such as {date:%Y-%m}, and {metadata[filename]} or any other value of the"
        " client's, in which all but letters, digits, dots and dashes becomes _.",
        differs="tusd: no such setting; always the id.",
    )  # fmt: skip
    s3_object_metadata: bool = setting(
        True, SWITCH, S3,
        "Give objects the client's metadata, as x-amz-meta-<name>: what is not ASCII as RFC 2047 has it, and as much as"
        " fits into S3's 2 KB. All of it is in <id>.info.",
        differs="tusd: as here, but each character that is not ASCII is a question mark, and what does not fit makes"
        " the upload fail.",
    )  # fmt: skip
    s3_storage_class: str = setting(
        "", Text("the name of a storage class"), S3,
        "Storage class of objects, as in INTELLIGENT_TIERING. Not of <id>.info, which is written often.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    s3_tags: str = setting(
        "", Text("tags such as project=mice&team=vision"), S3,
        "Tags of objects, as in a query of a URL.", differs="tusd: no such setting.",
    )  # fmt: skip
    s3_acl: str = setting(
        "none", Choice("none", *ACLS, placeholder="ACL"), S3,
        "Who else may read objects, as a canned ACL such as bucket-owner-full-control or public-read; buckets at Amazon"
        " take none unless told to.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    s3_encryption: str = setting(
        "none", Choice("none", "AES256", "aws:kms", "aws:kms:dsse", "customer", placeholder="HOW"), S3,
        "How the storage encrypts objects and <id>.info. none: as the bucket says. AES256: with keys of its own"
        " (SSE-S3). aws:kms: with those of s3-kms-key (SSE-KMS). customer: with s3-customer-key-file, which it forgets"
        " after each request (SSE-C); without this file nobody can read the objects again.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    s3_kms_key: str = setting(
        "", Text("the id or the ARN of a key"), S3,
        "Key for s3-encryption aws:kms. Empty: that of the bucket, or the account's.", differs="tusd: no such setting.",
    )  # fmt: skip
    s3_customer_key_file: str = setting(
        "", Path(may_be_empty=True), S3,
        "File with the key for s3-encryption customer: 32 bytes, or these in base64, as openssl rand -base64 32 writes"
        " it.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    s3_redirect_downloads: float = setting(
        0.0, Duration(may_be_zero=True), S3,
        "Redirect each GET of a finished upload to a presigned URL, which is good for so long (7d at most): its bytes"
        " then come from the storage itself. 0: they come through this server. Pages of other origins need CORS rules"
        " of the bucket.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    s3_public_endpoint: str = setting(
        "", Url(), S3,
        "URL of the storage as clients reach it, for such redirects. Empty: s3-endpoint.",
        differs="tusd: no such setting.",
    )  # fmt: skip
    s3_transfer_acceleration: bool = setting(
        False, SWITCH, S3, "Use Amazon's accelerated endpoints; the bucket must allow it.",
    )  # fmt: skip
    s3_disable_ssl: bool = setting(
        False, SWITCH, S3, "Speak plain HTTP with Amazon. With s3-endpoint, its URL says what is spoken.",
    )  # fmt: skip
    s3_log_api_calls: bool = setting(
        False, SWITCH, S3, "Log a line for each call to the storage: operation, key, status, seconds. Needs verbose.",
    )  # fmt: skip
    s3_disable_content_hashes: bool = setting(
        False, SWITCH, S3,
        "Send no checksums. Ours, CRC64NVME, cost 25 milliseconds of CPU a GiB, and the storage refuses bytes that"
        " changed on their way to it.",
    )  # fmt: skip

    locker: str = setting(
        "file", Choice("file", "memory", "redis"), LOCKS,
        "How two requests are kept from changing one upload at once. file: any number of processes of one machine may"
        " serve one directory or bucket. redis: of any number of machines, see redis-url. memory: for one process and"
        " never more, so that workers is then 1.",
    )  # fmt: skip
    redis_url: str = setting(
        "", Text("a URL such as redis://:password@host:6379/0"), LOCKS,
        "Redis for locker redis, and for jobs redis. rediss:// is TLS, unix:///path/redis.sock a socket;"
        " redis+sentinel://host:26379,host:26379/service asks Sentinels, redis+cluster://host:6379,host:6379 is a"
        " Cluster. Needs pip install 'tusd-py[redis]'. All keys of locks expire: use maxmemory-policy noeviction.",
        differs="tusd: no such setting; its replicas need a balancer that sends each upload to the same one.",
        is_secret=True,
    )  # fmt: skip
    redis_prefix: str = setting(
        "tusd-py:", Text("text without { } and blanks"), LOCKS,
        "What the keys and channels in Redis begin with. Servers with one bucket have one prefix.",
    )  # fmt: skip
    redis_lease: float = setting(
        10.0, Duration(may_be_zero=False), LOCKS,
        "How long a lock outlives its process, at least 1 s; it is renewed three times as often. After the end of a"
        " machine its uploads go on elsewhere after this time; a Redis that is away for longer ends running requests.",
    )  # fmt: skip
    acquire_lock_timeout: float = setting(
        20.0, Duration(may_be_zero=True), LOCKS,
        "How long a request waits for an upload that another one holds before it is answered 423, which clients retry.",
    )  # fmt: skip
    stall_timeout: float = setting(
        0.5, Duration(may_be_zero=True), LOCKS,
        "A PATCH whose client sent nothing for this long gives the upload up to a request that asks for it; its bytes"
        " are kept. Without such a request it may be silent for network-timeout.",
        differs="tusd: no such setting; whoever asks ends a running PATCH, also a healthy one.",
    )  # fmt: skip
