"""From settings to a store: where the bucket is, whose credentials are used, and what memory there is; by boto3.

Makes no request: whether the bucket answers, `dialect` finds out.
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions

from tusd_py.errors import ConfigError
from tusd_py.stores.s3.bucket import Bucket, Cursor
from tusd_py.stores.s3.chain import Chain
from tusd_py.stores.s3.client import Client, Place, log_call
from tusd_py.stores.s3.control import MOST_CALLS, Control
from tusd_py.stores.s3.failures import Failures
from tusd_py.stores.s3.memory import Memory
from tusd_py.stores.s3.names import Names
from tusd_py.stores.s3.plan import Limits, Plan
from tusd_py.stores.s3.settings import S3Settings
from tusd_py.stores.s3.shared import Shared
from tusd_py.stores.s3.slots import Slots
from tusd_py.stores.s3.store import S3Store
from tusd_py.stores.s3.warm import Warm
from tusd_py.stores.s3.wire import Wire

_MOST_CONNECTIONS = 128

READ_SECONDS = 120.0
"""Completing an upload of many parts may take minutes, and some storages are silent meanwhile."""


def connect(settings: S3Settings, shared: Shared | None = None) -> S3Store:
    """`shared` is the locker, if all servers of the bucket share it. Raises ConfigError for what cannot be right."""
    settings.check_redirects()
    try:
        session = boto3.Session()
        credentials = session.get_credentials()
        s3 = _client(session, settings)
        presigner = s3
        if settings.public_endpoint:
            presigner = _client(session, replace(settings, endpoint=settings.public_endpoint))
        wire, place = _wire(session, s3, settings)
    except (ValueError, botocore.exceptions.BotoCoreError) as error:
        raise ConfigError(f"the settings for S3 are wrong: {error}") from error
    except OSError as error:
        raise ConfigError(f"the certificates of AWS_CA_BUNDLE cannot be read: {error}") from error
    if credentials is None:
        raise ConfigError(
            "there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give"
            " the machine a role"
        )
    tell = log_call if settings.logs_calls else None
    encryption = settings.encrypted()
    control = Control(s3, credentials, settings.bucket, encryption, tell, presigner)
    client = Client(wire, place, control, encryption, tell)
    memory = Memory(settings.memory_bytes, settings.temporary_folder)
    return S3Store(
        Bucket(
            client=client,
            control=control,
            chain=Chain(client, settings.bucket),
            names=Names(settings.prefix, settings.template()),
            attributes=settings.attributes(),
            cursor=Cursor(),
            plan=Plan(Limits(min_part_bytes=settings.min_part_bytes), settings.part_bytes),
            memory=memory,
            slots=Slots(settings.concurrent_parts),
            warm=Warm(memory),
            failures=Failures(settings.bucket),
            buffered_parts=settings.buffered_parts,
            redirect_seconds=settings.redirect_seconds,
            shared=shared,
            has_crc=settings.sends_checksums,
        ),
        shared,
    )


def _client(session: boto3.Session, settings: S3Settings) -> Any:
    by_path = bool(settings.endpoint) or "." in settings.bucket
    return session.client(
        "s3",
        endpoint_url=settings.endpoint or None,
        use_ssl=settings.uses_tls,
        config=botocore.config.Config(
            signature_version="s3v4",
            s3={
                "addressing_style": "path" if by_path else "virtual",
                "use_accelerate_endpoint": settings.uses_acceleration,
            },
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=5,
            read_timeout=READ_SECONDS,
            max_pool_connections=MOST_CALLS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _wire(session: boto3.Session, s3: Any, settings: S3Settings) -> tuple[Wire, Place]:
    url = urlsplit(s3.meta.endpoint_url)
    host, path = url.netloc, f"/{settings.bucket}/"
    if not (settings.endpoint or "." in settings.bucket):
        host, path = f"{settings.bucket}.{url.netloc}", "/"
    tls = None
    if url.scheme == "https":
        # As boto3 finds them: AWS_CA_BUNDLE, or the file of the profile.
        tls = ssl.create_default_context(cafile=session._session.get_config_variable("ca_bundle"))  # noqa: SLF001
    name = host.rpartition(":")[0] if url.port else host
    wire = Wire(name, url.port or (443 if tls else 80), tls, most_connections=_MOST_CONNECTIONS)
    return wire, Place(host, s3.meta.region_name or "us-east-1", path)
