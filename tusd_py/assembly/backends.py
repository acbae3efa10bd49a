"""Which store and locker, and which way between processes, by the settings: the one place that names concrete ones.

A part of the composition root, which `app` and commands share.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tusd_py.config import Config
from tusd_py.core.feed import Relay
from tusd_py.errors import ConfigError
from tusd_py.lockers.file import FileLocker
from tusd_py.lockers.file.relay import FileRelay
from tusd_py.lockers.memory import MemoryLocker
from tusd_py.lockers.redis import RedisLocker
from tusd_py.stores.disk import DiskStore
from tusd_py.stores.disk.files import WORK_FOLDER

if TYPE_CHECKING:
    from tusd_py.stores.s3 import S3Store

Locker = MemoryLocker | FileLocker | RedisLocker
AnyStore: TypeAlias = "DiskStore | S3Store"


def make_locker(config: Config) -> Locker:
    if config.locker == "memory":
        return MemoryLocker(timeout_seconds=config.acquire_lock_timeout)
    if config.locker == "redis":
        return RedisLocker(
            config.redis_url,
            config.redis_prefix,
            timeout_seconds=config.acquire_lock_timeout,
            lease_seconds=config.redis_lease,
        )
    return FileLocker(own_folder(config) / "locks", timeout_seconds=config.acquire_lock_timeout)


def make_relay(config: Config, locker: Locker) -> Relay | None:
    """How processes tell each other what happens to uploads: where they share locks, in the same place."""
    if not config.has_api or isinstance(locker, MemoryLocker):
        return None
    if isinstance(locker, RedisLocker):
        return locker.relay
    return FileRelay(str(own_folder(config) / "locks/news"))


def make_store(config: Config, locker: Locker, *, is_asked_first: bool) -> AnyStore:
    """`is_asked_first`: hooks have a say in what is finished."""
    if config.s3_bucket:
        return s3_store(config, locker if isinstance(locker, RedisLocker) else None)
    store = DiskStore(
        config.upload_dir,
        is_durable=config.durability == "power",
        finishes_by_size=config.digest == "none" and not is_asked_first,
        dir_permissions=config.dir_perms,
        file_permissions=config.file_perms,
    )
    store.prepare()
    return store


def s3_store(config: Config, shared: RedisLocker | None = None) -> S3Store:
    """Makes no request. Raises ConfigError for what cannot be right."""
    try:
        from tusd_py.stores.s3.connecting import connect  # noqa: PLC0415  (an extra)
        from tusd_py.stores.s3.settings import S3Settings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--s3-bucket needs what is not installed here ({error.name}): pip install 'tusd-py[s3]'"
        ) from error
    return connect(
        S3Settings(
            bucket=config.s3_bucket,
            endpoint=config.s3_endpoint,
            prefix=config.s3_object_prefix,
            part_bytes=config.s3_part_size,
            min_part_bytes=config.s3_min_part_size,
            concurrent_parts=config.s3_concurrent_part_uploads,
            memory_bytes=config.s3_memory,
            temporary_folder=config.s3_temporary_dir or None,
            uses_acceleration=config.s3_transfer_acceleration,
            sends_checksums=not config.s3_disable_content_hashes,
            uses_tls=not config.s3_disable_ssl,
            buffered_parts=config.s3_max_buffered_parts,
            logs_calls=config.s3_log_api_calls,
            object_key=config.s3_object_key,
            has_metadata=config.s3_object_metadata,
            storage_class=config.s3_storage_class,
            tags=config.s3_tags,
            acl="" if config.s3_acl == "none" else config.s3_acl,
            encryption="" if config.s3_encryption == "none" else config.s3_encryption,
            kms_key=config.s3_kms_key,
            customer_key_file=config.s3_customer_key_file,
            redirect_seconds=config.s3_redirect_downloads,
            public_endpoint=config.s3_public_endpoint,
        ),
        shared,
    )


def own_folder(config: Config) -> Path:
    """One for all processes of this machine that change the same uploads, for what they share."""
    if not config.s3_bucket:
        return Path(config.upload_dir, WORK_FOLDER).absolute()
    place = "\n".join((config.s3_endpoint, config.s3_bucket, config.s3_object_prefix))
    name = f"tusd-py-{os.getuid()}-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
    return Path(tempfile.gettempdir(), name)


def made_own_folder(config: Config) -> Path:
    """The same, made if it is missing. Raises ConfigError for one in the temporary folder that is somebody else's, who
    knows its name and could put events for hooks there."""
    folder = own_folder(config)
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        found = os.lstat(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    if config.s3_bucket and not is_ours:
        raise ConfigError(f"{folder} is not this user's alone: remove it, or set TMPDIR to a folder that is")
    return folder


async def start_backends(stack: AsyncExitStack, locker: Locker, store: AnyStore) -> None:
    """What needs others to be there; closed with the stack. Raises ConfigError, and BackendError for what may pass."""
    if not isinstance(locker, MemoryLocker):
        await locker.start()
        stack.push_async_callback(locker.aclose)
    if not isinstance(store, DiskStore):
        await store.start()


async def start_relay(stack: AsyncExitStack, relay: Relay | None) -> None:
    if isinstance(relay, FileRelay):  # that of Redis opens and closes with its locker
        stack.push_async_callback(relay.aclose)
        await relay.start()
