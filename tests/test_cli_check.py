"""The command `tusd-py check`: what it prints, what is wrong in one line, and its exit codes; on real servers."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3proxy import FaultProxy
from s3servers import MinIO, MissingService, S3Server

from tusd_py.cli import main
from tusd_py.stores.s3 import client, wire
from tusd_py.stores.s3.client import Client, S3Error
from tusd_py.stores.s3.diagnosis import action, fatal

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith(("TUSD_PY_", "AWS_")) and "KEY" not in variable and "REGION" not in variable:
            monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command; answers the exit code, and what it printed."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(["check", *argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def keys(server: S3Server, bucket: str) -> list[str]:
    found = server.client().list_objects_v2(Bucket=bucket).get("Contents", ())
    return [each["Key"] for each in found]


def multiparts(server: S3Server, bucket: str) -> list[str]:
    return [each["Key"] for each in server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


# What it prints.


def test_help_teaches_without_a_server(check: Check) -> None:
    code, out, err = check("--help")
    assert (code, err) == (0, "")
    for each in ("usage: tusd-py check [s3://bucket[/prefix]]", "Examples:", "Exit codes:", ".tusd-py/check-<random>/"):
        assert each in out
    assert all(len(line) <= 120 for line in out.splitlines())


def test_the_help_of_all_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "  tusd-py check s3://bucket/prefix\n" in capsys.readouterr().out


def test_a_good_storage(versitygw: S3Server, check: Check) -> None:
    bucket = versitygw.new_bucket()
    code, out, err = check(f"s3://{bucket}/up/", "--s3-endpoint", versitygw.endpoint)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"s3://{bucket}/up/ at {versitygw.endpoint}: VersityGW, path style, no TLS"
    assert "  yes      If-None-Match: * refuses what exists" in lines
    assert not [line for line in lines if line.startswith(("  NO ", "  denied", "  unclear"))]
    assert "Latency (median): Abort" in out
    assert " calls, 5.0 MiB sent\n" in out
    assert "Limits (Amazon's, taken for granted, not tried): 10,000 parts, 5 GiB a part" in out
    assert lines[-1] == "All that is required works."
    assert keys(versitygw, bucket) == multiparts(versitygw, bucket) == []


def test_the_bucket_of_the_settings(minio: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = minio.new_bucket()
    monkeypatch.setenv("TUSD_PY_S3_BUCKET", bucket)
    monkeypatch.setenv("TUSD_PY_S3_OBJECT_PREFIX", "in/")
    monkeypatch.setenv("TUSD_PY_S3_ENDPOINT", minio.endpoint)
    code, out, _ = check()
    assert code == 0
    assert out.startswith(f"s3://{bucket}/in/ at {minio.endpoint}: MinIO, path style")
    assert "! MinIO aborts multipart uploads by itself after 1 day" in out


def test_json_is_one_object(minio: S3Server, check: Check) -> None:
    bucket = minio.new_bucket()
    code, out, _ = check(f"s3://{bucket}", "--s3-endpoint", minio.endpoint, "--log-format=json")
    found = json.loads(out)
    assert (code, found["is_usable"], found["missing"], found["provider"]) == (0, True, [], "MinIO")
    assert found["dialect"]["checks_whole_crc64"] is True
    assert found["dialect"]["lists_multiparts_by_prefix"] is False
    assert {each["verdict"] for each in found["findings"]} == {"yes", "no"}


@pytest.mark.parametrize("locker", ["file", "memory"])
def test_without_conditional_writes(
    locker: str, versitygw: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Client.put

    async def deaf_put(self: Client, key: str, payload: Any, headers: Any) -> Any:
        return await put(self, key, payload, {name: value for name, value in headers.items() if "match" not in name})

    monkeypatch.setattr(Client, "put", deaf_put)
    bucket = versitygw.new_bucket()
    code, out, err = check(f"s3://{bucket}", "--s3-endpoint", versitygw.endpoint, "--locker", locker)
    assert (code, err) == (1, "")
    assert "  NO       If-Match refuses a stale ETag " in out
    assert "  ! this storage has no conditional writes: uploads are safe with --locker redis only\n" in out
    assert out.splitlines()[-1].startswith("Required, and missing: If-None-Match: * refuses what exists; ")
    assert keys(versitygw, bucket) == []


# What is wrong, in one line.


def assert_one_line(result: tuple[int, str, str], says: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("tusd-py: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "check what? tusd-py check s3://bucket/prefix (or set --s3-bucket), or"),
        (["uploads"], "'uploads' is no bucket; write s3://bucket"),
        (["ftp://uploads"], "'ftp://uploads' is no bucket"),
        (["s3://"], "'s3://' is no bucket"),
        (["s3://a-bucket", "s3://another"], "one bucket at a time"),
        (["s3://Uploads"], "no bucket can have the name 'Uploads'; allowed: 3 to 63 a-z"),
        (["s3://a..b"], "no bucket can have the name 'a..b'"),
        (["s3://192.168.1.1"], "no bucket can have the name"),
        (["s3://a b", "--s3-endpoint=http://127.0.0.1:1"], "no bucket can have the name 'a b'"),
        (["s3://bucket", "--s3-endpoint=nowhere"], "flag --s3-endpoint: 'nowhere' is wrong"),
    ],
)
def test_wrong_words(argv: list[str], says: str, check: Check) -> None:
    assert_one_line(check(*argv), says)


def test_no_such_bucket(s3: S3Server, check: Check) -> None:
    says = "there is no bucket 'nowhere-at-all': create it"
    assert_one_line(check("s3://nowhere-at-all", "--s3-endpoint", s3.endpoint), says)


@pytest.fixture(params=["minio", "versitygw"])
def strict(request: pytest.FixtureRequest) -> Any:
    """Those that look at credentials at all."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("AWS_ACCESS_KEY_ID", "nobody", "does not know the access key: correct AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "wrong-secret", "the secret key is wrong: correct AWS_SECRET_ACCESS_KEY"),
        ("AWS_PROFILE", "nope", "the settings for S3 are wrong: The config profile (nope) could not be found"),
    ],
)
def test_wrong_credentials(
    variable: str, value: str, says: str, strict: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = strict.new_bucket()
    monkeypatch.setenv(variable, value)
    assert_one_line(check(f"s3://{bucket}", "--s3-endpoint", strict.endpoint), says)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "there are no credentials for S3: set AWS_ACCESS_KEY_ID"),
        (["AWS_SECRET_ACCESS_KEY"], "missing: AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_no_credentials(
    missing: list[str], says: str, versitygw: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in missing:
        monkeypatch.delenv(variable)
    assert_one_line(check("s3://bucket", "--s3-endpoint", versitygw.endpoint), says)


def test_credentials_that_a_program_does_not_give(
    versitygw: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\ncredential_process = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert_one_line(check("s3://bucket", "--s3-endpoint", versitygw.endpoint), "custom-process")


def test_wrong_region(versitygw: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = versitygw.new_bucket()
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    result = check(f"s3://{bucket}", "--s3-endpoint", versitygw.endpoint)
    assert_one_line(result, "the bucket is in another region: set AWS_REGION to us-east-1")


@pytest.mark.parametrize("minutes", [-16, 16])
def test_wrong_clock(minutes: int, strict: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dt.datetime

    class Clock(real):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + dt.timedelta(minutes=minutes)

    bucket = strict.new_bucket()
    monkeypatch.setattr(client, "datetime", Clock)
    result = check(f"s3://{bucket}", "--s3-endpoint", strict.endpoint)
    assert_one_line(result, "the clock of this machine is wrong by more than 15 minutes: set it by NTP")


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://127.0.0.1:1", "the storage cannot be reached: correct --s3-endpoint, or see whether it runs"),
        ("http://storage.invalid", "the host of the storage has no address: correct --s3-endpoint"),
    ],
)
def test_nothing_there(endpoint: str, says: str, versitygw: S3Server, check: Check) -> None:
    assert_one_line(check("s3://bucket", "--s3-endpoint", endpoint), says)


def test_https_where_http_is_spoken(versitygw: S3Server, check: Check) -> None:
    endpoint = versitygw.endpoint.replace("http://", "https://")
    assert_one_line(check("s3://bucket", "--s3-endpoint", endpoint), "TLS fails: see whether the endpoint is https://")


def test_certificates_that_are_not_there(versitygw: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    says = "the certificates of AWS_CA_BUNDLE cannot be read"
    assert_one_line(check("s3://bucket", "--s3-endpoint", "https://127.0.0.1:1"), says)


@pytest.fixture
def some_site() -> Iterator[str]:
    """An HTTP server that is no S3."""

    class Site(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200 if "/found/" in self.path else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("bucket", ["missing", "found"])
def test_no_storage_at_all(bucket: str, some_site: str, versitygw: S3Server, check: Check) -> None:
    assert_one_line(check(f"s3://{bucket}", "--s3-endpoint", some_site), "does not do so as S3 does")


# TLS.


class SecureMinIO(MinIO):
    """Speaks TLS, with the certificate in `certificates`."""

    certificates: Path

    def _command(self) -> list[str]:
        shutil.copytree(self.certificates, self.folder / "certificates", dirs_exist_ok=True)
        self.endpoint = self.endpoint.replace("http://", "https://")
        return super()._command()


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    certificate, key = tmp_path / "public.crt", tmp_path / "private.key"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*make, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("missing: openssl, to make certificates")
    monkeypatch.setattr(SecureMinIO, "certificates", tmp_path, raising=False)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    try:
        server = SecureMinIO()
    except MissingService as error:
        pytest.skip(str(error))
    with server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        yield server


def test_a_certificate_that_is_not_trusted(secure: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    result = check("s3://bucket", "--s3-endpoint", secure.endpoint)
    assert_one_line(result, "the certificate of the storage is not trusted: let AWS_CA_BUNDLE name")


def test_a_certificate_that_is_trusted(secure: S3Server, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 2.0)
    bucket = secure.new_bucket()
    code, out, _ = check(f"s3://{bucket}", "--s3-endpoint", secure.endpoint)
    assert "MinIO, path style, TLS with a trusted certificate" in out
    assert "keep http://" not in out
    assert keys(secure, bucket) == []
    assert code == 0


# Permissions.


@pytest.fixture
def allow_only(minio: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def allow(*actions: str) -> None:
        policy = {"Effect": "Allow", "Action": actions, "Resource": "arn:aws:s3:::*"}
        sts = boto3.client(
            "sts",
            endpoint_url=minio.endpoint,
            region_name=minio.region,
            aws_access_key_id=minio.access_key,
            aws_secret_access_key=minio.secret_key,
        )
        given = sts.assume_role(
            RoleArn="arn:aws:iam::1:role/any",
            RoleSessionName="tests",
            Policy=json.dumps({"Version": "2012-10-17", "Statement": [policy]}),
        )["Credentials"]
        sts.close()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", given["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", given["SessionToken"])

    return allow


NEEDED = (
    "s3:PutObject",
    "s3:GetObject",
    "s3:DeleteObject",
    "s3:ListBucket",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
    "s3:ListBucketMultipartUploads",
)


def test_what_is_needed_suffices(minio: S3Server, check: Check, allow_only: Callable[..., None]) -> None:
    bucket = minio.new_bucket()
    allow_only(*NEEDED)
    code, out, _ = check(f"s3://{bucket}", "--s3-endpoint", minio.endpoint)
    assert code == 0
    assert "allow s3:GetLifecycleConfiguration to see it" in " ".join(out.split())
    assert "  denied   Tags are kept" in out
    assert keys(minio, bucket) == []


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ("s3:GetObject", "GetObject needs s3:GetObject"),
        ("s3:ListBucket", "ListObjectsV2 needs s3:ListBucket"),
        ("s3:ListMultipartUploadParts", "ListParts needs s3:ListMultipartUploadParts"),
        ("s3:ListBucketMultipartUploads", "ListMultipartUploads needs s3:ListBucketMultipartUploads"),
        ("s3:AbortMultipartUpload", "AbortMultipartUpload needs s3:AbortMultipartUpload"),
    ],
)
def test_a_permission_that_is_lacking_is_named(
    lacking: str, says: str, minio: S3Server, check: Check, allow_only: Callable[..., None]
) -> None:
    bucket = minio.new_bucket()
    allow_only(*(each for each in NEEDED if each != lacking))
    code, out, err = check(f"s3://{bucket}/up/", "--s3-endpoint", minio.endpoint)
    assert code == 2
    assert says in out
    assert says in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("tusd-py: error: no permission for what is required: ")
    assert keys(minio, bucket) == []


def test_no_permission_to_write(minio: S3Server, check: Check, allow_only: Callable[..., None]) -> None:
    bucket = minio.new_bucket()
    allow_only("s3:ListBucket", "s3:GetObject", "s3:DeleteObject")
    result = check(f"s3://{bucket}/up/", "--s3-endpoint", minio.endpoint)
    assert_one_line(result, f"no permission for PutObject: allow s3:PutObject on arn:aws:s3:::{bucket}/up/*")


def test_what_may_not_be_removed_is_told(minio: S3Server, check: Check, allow_only: Callable[..., None]) -> None:
    bucket = minio.new_bucket()
    allow_only(*(each for each in NEEDED if each != "s3:DeleteObject"))
    code, _, err = check(f"s3://{bucket}", "--s3-endpoint", minio.endpoint)
    left = keys(minio, bucket)
    assert code == 2 or left
    assert "could not be removed again: " in err
    assert all(each in err for each in left)


# Ctrl-C.


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
def test_ctrl_c_leaves_nothing(operation: str, versitygw: S3Server) -> None:
    bucket = versitygw.new_bucket()
    argv = [sys.executable, "-W", "error", "-m", "tusd_py", "check", f"s3://{bucket}/up/", "--s3-endpoint"]
    with FaultProxy(versitygw.host, versitygw.port) as proxy:
        # The answer to a call by boto3 is awaited also after Ctrl-C.
        kind = "hang" if operation != "CompleteMultipartUpload" else "delay"
        fault = proxy.inject(kind, operation, nth=2, seconds=0.5)
        with subprocess.Popen(
            [*argv, proxy.endpoint], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            call = fault.wait()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        fault.release()
        call.wait()
    assert (process.returncode, out, err) == (130, "", "tusd-py: interrupted\n")
    assert keys(versitygw, bucket) == []
    assert multiparts(versitygw, bucket) == []


# What failures mean, of storages that are not here.


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            S3Error("PutObject", 301, "PermanentRedirect", "use another"),
            "in another region, or behind another endpoint",
        ),
        (S3Error("GetObject", 301, "301", "no details"), "in another region, or behind another endpoint"),
        (
            S3Error("GetObject", 400, "AuthorizationHeaderMalformed", "'us-east-1' is wrong; expecting 'eu-west-1'"),
            "set AWS_REGION to eu-west-1",
        ),
        (
            S3Error("GetObject", 400, "AuthorizationHeaderMalformed", "is wrong; expecting &#39;eu-west-1&#39;"),
            "set AWS_REGION to eu-west-1",
        ),
        (S3Error("GetObject", 400, "ExpiredToken", "old"), "the session token has expired"),
        (S3Error("list_parts", 0, "EndpointConnectionError", "no connection"), "the storage cannot be reached"),
    ],
)
def test_what_nothing_gets_past(error: Exception, says: str) -> None:
    assert says in (fatal(error, "bucket") or "")


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchKey", "PreconditionFailed", "SlowDown", "InternalError"])
def test_what_others_may_get_past(code: str) -> None:
    assert fatal(S3Error("PutObject", 400, code, "no"), "bucket") is None


def test_operations_have_permissions() -> None:
    assert action("upload_part_copy") == "s3:GetObject and s3:PutObject"
    assert action("list_objects_v2") == "s3:ListBucket"
    assert action("UploadPart") == "s3:PutObject"
