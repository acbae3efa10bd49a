"""Real S3 servers as processes of their own: MinIO, versitygw and moto_server, each on a port and a folder of its own.

How each is found, started, asked whether it is up, paused, killed and ended is known only here. What they keep
survives `kill()` and `start()`, but for Moto, which keeps all in memory.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.server.certificates import make_certificate

HOST = "127.0.0.1"
START_SECONDS = 20.0
END_SECONDS = 5.0
POLL_SECONDS = 0.01
KMS_KEY = "tests-key"
"""That MinIO encrypts with where it is asked to."""


class MissingService(Exception):
    """A service is not installed here; the text starts with "missing: " and says how to install it."""


class S3Server:
    """One server process, started when it is made. The port stays the same when it is started again."""

    name: ClassVar[str]
    scheme: ClassVar[str] = "http"
    access_key = "tests-access"
    secret_key = "tests-secret-key"
    region = "us-east-1"
    running: ClassVar[list[S3Server]] = []

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._program = self._find()
        # Bound and never listened on: nobody else is given the port, also while the server is dead.
        self._port_holder = socket.socket()
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port_holder.bind((HOST, 0))
        self.host = HOST
        self.port: int = self._port_holder.getsockname()[1]
        self.endpoint = f"{self.scheme}://{HOST}:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self._session = boto3.session.Session()
        self.running.append(self)
        self._clients: dict[str, tuple[str | None, Any]] = {}
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def credentials(self) -> dict[str, str]:
        """As boto3's chain, and so our server, finds them in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def certificate(self) -> Path | None:
        """Whose key signs for it, where it speaks TLS."""
        return None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def client(
        self,
        endpoint: str | None = None,
        retries: int = 0,
        access_key: str | None = None,
        secret_key: str | None = None,
        **config: Any,
    ) -> Any:
        """A boto3 client, of this server or of a proxy in front of it, the same one for the same arguments.

        It repeats nothing unless asked to, so that a test sees each failure. `config` goes to botocore's Config.
        `close_clients()` and `stop()` close its connections.
        """
        key = repr((endpoint, retries, access_key, secret_key, sorted(config.items())))
        if key not in self._clients:
            s3 = config.pop("s3", {"addressing_style": "path"})
            client = self._session.client(
                "s3",
                endpoint_url=endpoint or self.endpoint,
                verify=str(self.certificate) if self.certificate is not None else None,
                region_name=self.region,
                aws_access_key_id=access_key or self.access_key,
                aws_secret_access_key=secret_key or self.secret_key,
                config=Config(
                    signature_version="s3v4", s3=s3, retries={"total_max_attempts": 1 + retries}, proxies={}, **config
                ),
            )
            self._clients[key] = endpoint, client
        return self._clients[key][1]

    def close_clients(self) -> None:
        """What a test used: one that is used again connects again, those of proxies, which end, are forgotten."""
        for _, client in self._clients.values():
            client.close()
        self._clients = {key: each for key, each in self._clients.items() if each[0] is None}

    def new_bucket(self) -> str:
        name = f"tests-{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name

    def start(self) -> None:
        """Returns when the server answers ListBuckets."""
        (self.folder / "data").mkdir(exist_ok=True)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), **self._environment()}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._await_answer(self.client(connect_timeout=1, read_timeout=START_SECONDS))

    def _await_answer(self, client: Any) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers(client):
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name} ended at once; it wrote: {self.log[-4000:]}"
            assert time.monotonic() < deadline, f"{self.name} did not start; it wrote: {self.log[-4000:]}"
            time.sleep(POLL_SECONDS)  # nothing tells when a port is listened on

    def _answers(self, client: Any) -> bool:
        try:
            # Asked first since a refused connection costs a boto call some milliseconds.
            socket.create_connection((HOST, self.port), 1).close()
            client.list_buckets()
        except (OSError, BotoCoreError, ClientError):
            return False
        return True

    def pause(self) -> None:
        """It stands still and keeps everything it has; returns when all its threads have stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + END_SECONDS
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0] != "T":
            assert time.monotonic() < deadline, f"{self.name} did not stop"
            time.sleep(POLL_SECONDS / 10)  # nothing tells of a state of another process

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """As `kill -9`; returns when the kernel has ended it. What it stored is there for the next `start()`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(END_SECONDS)

    def stop(self) -> None:
        """Ends the process in whatever state it is, and removes its folder. May be called again."""
        self.close_clients()
        if self in self.running:
            self.running.remove(self)
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._port_holder.close()
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _find(self) -> str:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {}


class MinIO(S3Server):
    name = "minio"

    def _find(self) -> str:
        return _find_go_program("minio", "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c")

    def _command(self) -> list[str]:
        listening = ("--address", f"{HOST}:{self.port}", "--certs-dir", str(self.folder / "certificates"))
        return [self._program, "server", str(self.folder / "data"), *listening]

    def _environment(self) -> dict[str, str]:
        return {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",  # no console, so no port of it
            "MINIO_UPDATE": "off",  # it asks nobody for newer versions
            "MINIO_KMS_SECRET_KEY": f"{KMS_KEY}:{base64.b64encode(bytes(32)).decode()}",
        }


class SecureMinIO(MinIO):
    """With TLS, and a certificate that nobody but its file vouches for."""

    name = "minio-tls"
    scheme = "https"

    def start(self) -> None:
        folder = self.folder / "certificates"
        if not folder.exists():
            folder.mkdir()
            make_certificate(self.certificate, folder / "private.key")
        super().start()

    @property
    def certificate(self) -> Path:
        return self.folder / "certificates" / "public.crt"


class Versitygw(S3Server):
    name = "versitygw"

    def _find(self) -> str:
        return _find_go_program("versitygw", "github.com/versity/versitygw/cmd/versitygw@v1.8.0")

    def _command(self) -> list[str]:
        listening = ("--port", f"{HOST}:{self.port}", "--keep-alive", "--quiet", "--region", self.region)
        return [self._program, *listening, "posix", str(self.folder / "data")]

    def _environment(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}


class Moto(S3Server):
    """Accepts any signature and any checksum; what it holds is lost when it ends."""

    name = "moto"

    def _find(self) -> str:
        try:
            import moto.server  # noqa: F401
        except ImportError as error:
            raise MissingService("missing: moto_server; pip install 'moto[server]'") from error
        return sys.executable

    def _command(self) -> list[str]:
        return [self._program, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]


def _find_go_program(name: str, module: str) -> str:
    """On PATH, or where `go install` puts programs."""
    if found := shutil.which(name):
        return found
    go_path = ""
    if go := shutil.which("go"):
        go_path = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=False).stdout.strip()
    if found := shutil.which(name, path=str(Path(go_path or Path.home() / "go") / "bin")):
        return found
    raise MissingService(f"missing: {name}; go install {module}")


SERVERS: tuple[type[S3Server], ...] = (MinIO, Versitygw, Moto)
