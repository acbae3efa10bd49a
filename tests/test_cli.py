"""The command: what it prints, where, and with which exit code; as a function and as a process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tusd_py import __version__, cli
from tusd_py.cli import announcement, main
from tusd_py.config import SETTINGS, Config, load

ROOT = Path(__file__).parents[1]
IS_SERVER_THERE = bool(find_spec("tusd_py.app") and find_spec("tusd_py.server.serve"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for variable in list(os.environ):
        if variable.startswith("TUSD_PY_"):
            monkeypatch.delenv(variable)


def command(*argv: str, environ: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tusd_py", *argv],
        env=environment, capture_output=True, text=True, timeout=30, check=False, **options,
    )  # fmt: skip


# Help and version.


@pytest.mark.parametrize("flag", ["--help", "-help", "-h"])
def test_help_names_every_flag(flag, capsys):
    assert main([flag]) == 0
    out = capsys.readouterr().out
    for setting in SETTINGS.values():
        assert f"  {setting.flag}" in out
    for other in ("--config", "--version", "--help", "tusd-py config", "TUSD_PY_"):
        assert other in out


def test_help_follows_the_width_of_the_terminal(capsys, monkeypatch):
    heights = []
    for columns in ("60", "100"):
        monkeypatch.setenv("COLUMNS", columns)
        main(["--help"])
        heights.append(len(capsys.readouterr().out.splitlines()))
    assert heights[0] > heights[1]


@pytest.mark.parametrize("flag", ["--version", "-version"])
def test_version(flag, capsys):
    assert main([flag]) == 0
    assert capsys.readouterr().out == f"tusd-py {__version__}\n"


def test_help_works_when_the_settings_do_not(capsys, monkeypatch):
    monkeypatch.setenv("TUSD_PY_PORT", "x")
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert capsys.readouterr().err == ""


# Errors.


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--port", "x"], "flag --port: 'x' is wrong; allowed: a whole number from 0 to 65535"),
        (["-gcs-bucket", "b"], "-gcs-bucket is a flag of tusd that this version does not have"),
        (["confg"], "unknown command 'confg'; did you mean config?"),
        (["help"], "unknown command 'help'; did you mean --help?"),
        (["frobnicate"], "unknown command 'frobnicate'; the commands are check, config, hooks, jobs, upload and "),
        (["--verbose", "upload"], "the word upload comes first: tusd-py upload FILE... URL"),
        (["--verbose", "check", "http://a/"], "to check a server, check comes first, with its own flags"),
        (["uplod"], "unknown command 'uplod'; did you mean upload?"),
        (["--verbose", "false"], "unexpected word 'false'; after a flag with true|false it needs a ="),
        (["config", "--base-path", "x\ny"], "flag --base-path: 'x\\ny' is wrong"),
    ],
)  # fmt: skip
def test_errors_are_one_line_on_stderr_and_exit_code_2(argv, says, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tusd-py: error: {says}")
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_errors_of_the_process_have_no_traceback():
    done = command("--port", "99999")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "tusd-py: error: flag --port: '99999' is wrong; allowed: a whole number from 0 to 65535\n"


def test_bytes_that_are_not_utf8_are_refused_in_one_line():
    done = command("config", os.fsdecode(b"--upload-dir=\xff"))
    assert done.returncode == 2
    assert done.stderr.startswith("tusd-py: error: flag --upload-dir: '\\udcff' is wrong")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tusd_py", "--help"],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_standard_output_that_takes_no_more_is_an_error_in_words():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tusd_py", "--help"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "tusd-py: error: standard output takes no more: no space left on device\n"


def test_standard_output_that_is_closed_is_no_error():
    program = [sys.executable, "-m", "tusd_py", "--version"]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *program], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


# tusd-py config.


def test_config_prints_every_setting_with_value_and_source(capsys, monkeypatch):
    monkeypatch.setenv("TUSD_PY_MAX_SIZE", "64MiB")
    assert main(["-port=80", "config"]) == 0
    out = capsys.readouterr().out
    assert set(tomllib.loads(out)) == {s.key for s in SETTINGS.values()}
    lines = {line.split(" = ")[0]: line for line in out.splitlines() if " = " in line}
    assert lines["port"].startswith("port = 80 ")
    assert lines["port"].endswith("  # flag --port")
    assert lines["max-size"].startswith('max-size = "64MiB" ')
    assert lines["max-size"].endswith("  # environment TUSD_PY_MAX_SIZE")
    assert lines["host"].endswith("  # default")


def test_config_may_be_saved_and_given_back(tmp_path):
    flags = [
        "--host=::1", "--port=0", "--unix-sock=/run/tusd \"x\".sock", "--base-path=/", "--behind-proxy",
        "--expose-api", "--api-path=/x", "--list-uploads", "--list-hosts=files.lan,f",
        "--page-path=/page", "--disable-page",
        "--trusted-proxies=10.0.0.0/8,::1", "--tls-certificate=c.pem", "--tls-key=clé\\.pem", "--tls-mode=tls13",
        "--workers=1", "--max-size=1.5GiB", "--disable-download", "--disable-termination", "--disable-concatenation",
            "--digest=sha512",
        "--expire-after=0", "--sweep-interval=90s", "--disable-cors", r"--cors-allow-origin=^https://a\.b$ # x",
        "--cors-allow-credentials", "--cors-allow-methods=LOCK", "--cors-allow-headers=1,2", "--cors-max-age=5",
        "--cors-expose-headers=7", "--upload-dir=/srv/data", "--durability=process", "--dir-perms=700",
        "--file-perms=600", "--locker=memory", "--acquire-lock-timeout=0.1", "--stall-timeout=1h30m",
        "--network-timeout=1234.5678", "--shutdown-timeout=0", "--max-header-size=9999", "--verbose=false",
        "--show-startup-logs=false", "--least-rate=1KiB", "--header-timeout=5s", "--keep-alive-timeout=6s",
        "--write-timeout=7s", "--answer-timeout=8s", "--max-connections=9", "--max-connections-per-address=3",
        "--max-requests=10", "--max-unwanted-body=11", "--log-format=json", "--expose-metrics=false",
        "--metrics-path=/m", "--metrics-port=9", "--tracing", "--s3-bucket=b", "--s3-object-prefix=a b/",
        "--s3-endpoint=https://[::1]:9000", "--s3-part-size=7MiB", "--s3-min-part-size=6MiB",
        "--s3-concurrent-part-uploads=11", "--s3-max-buffered-parts=12", "--s3-memory=1GiB", "--s3-temporary-dir=/tmp",
        "--s3-transfer-acceleration", "--s3-disable-content-hashes", "--s3-disable-ssl", "--s3-log-api-calls",
        "--s3-object-key={date}/{id}", "--s3-object-metadata=false", "--s3-storage-class=GLACIER_IR",
        "--s3-tags=a=b&c=d", "--s3-acl=public-read", "--s3-encryption=aws:kms", "--s3-kms-key=arn:aws:kms:x",
        "--s3-customer-key-file=/k", "--s3-redirect-downloads=5m", "--s3-public-endpoint=https://files.example.com",
        "--redis-prefix=p", "--redis-lease=2s", "--hooks=a,b.c:d,./e.py", "--hooks-dir=/hooks",
        "--hooks-enabled-events=pre-access", "--hooks-on-failure=allow",
        "--hooks-timeout=3s", "--hooks-job-timeout=2h", "--hooks-concurrency=5", "--progress-hooks-interval=9s",
        "--jobs=memory", "--jobs-file=/j", "--run-jobs=false",
        "--hooks-http-forward-headers=Cookie", "--hooks-http-retry=0", "--hooks-http-backoff=0",
        "--hooks-http-timeout=4s", "--hooks-http-size-limit=1MiB", "--hooks-http-skip-verify",
        "--hooks-http-cloudevents=/files/", "--hooks-http-metadata-key=callback",
        "--hooks-http-allowed-hosts=.example.com",
    ]  # fmt: skip
    shown = {name: setting for name, setting in SETTINGS.items() if not setting.is_secret}
    assert len(flags) == len(shown), "give every setting a value here that is not its default"
    wanted = load(flags, {}).config
    for name, setting in shown.items():
        assert getattr(wanted, name) != setting.default
    first = command("config", *flags)
    assert (first.returncode, first.stderr) == (0, "")
    (tmp_path / "x.toml").write_text(first.stdout, encoding="utf-8")
    again = load(["--config", str(tmp_path / "x.toml")], {})
    assert again.config == wanted
    second = command("--config", "x.toml", "config", cwd=tmp_path)
    assert tomllib.loads(second.stdout) == tomllib.loads(first.stdout)
    assert second.stdout.count("  # file x.toml\n") == len(SETTINGS)


def test_secrets_are_shown_nowhere(capsys, monkeypatch):
    monkeypatch.setenv("TUSD_PY_REDIS_URL", "redis://:hush@localhost")
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert "hush" not in out
    assert "# redis-url is set, and not shown" in out
    assert "  # environment TUSD_PY_REDIS_URL\n" in out
    assert "hush" not in repr(load([], {"TUSD_PY_REDIS_URL": "redis://:hush@localhost"}))
    monkeypatch.setenv("TUSD_PY_REDIS_URL", "redis://:hush\n@localhost")
    assert main(["config"]) == 2
    assert "hush" not in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["http", "htp"])
def test_what_is_secret_in_a_receivers_address_is_shown_nowhere(capsys, scheme):
    main(["config", "--hooks-http", f"{scheme}://user:hush@localhost/?token=hush"])
    printed = capsys.readouterr()
    assert "hooks-http" in printed.out + printed.err
    assert "hush" not in printed.out + printed.err


def test_config_does_not_load_a_server():
    code = "import sys; from tusd_py.cli import main; main(['config']); sys.exit('uvicorn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0


# Serving.


@pytest.fixture
def has_page(monkeypatch):
    monkeypatch.setattr(cli, "bundled", Path)


def test_the_start_message(capsys, has_page):
    announcement(Config(upload_dir="data", durability="process"))("http://127.0.0.1:8080/files/")
    assert capsys.readouterr().out == (
        f"tusd-py {__version__} is ready: http://127.0.0.1:8080/files/\n"
        "the page for people: http://127.0.0.1:8080/\n"
        f"uploads go to {os.getcwd()}/data (durability: process, locker: file)\n"
        "stop with Ctrl-C; settings: tusd-py config, help: tusd-py --help\n"
    )


def test_the_start_message_without_startup_logs_is_its_first_line(capsys):
    announcement(Config(show_startup_logs=False))("unix:/run/t.sock")
    assert capsys.readouterr().out == f"tusd-py {__version__} is ready: unix:/run/t.sock\n"


@pytest.mark.parametrize(
    ("values", "url", "page"),
    [
        ({}, "https://[::1]:8080/files/", "https://[::1]:8080/"),
        ({"page_path": "/send"}, "http://h:80/files/", "http://h:80/send/"),
        ({"base_path": "/"}, "http://h:80/", "http://h:80/"),
        ({"disable_page": True}, "http://h:80/files/", None),
        ({}, "unix:/run/files/", None),
    ],
)
def test_the_start_message_tells_where_the_page_is(values, url, page, capsys, has_page):
    announcement(Config(**values))(url)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f" is ready: {url}")
    assert [line for line in lines if "page" in line] == ([] if page is None else [f"the page for people: {page}"])


def test_the_start_message_tells_of_a_page_that_was_not_built(capsys, monkeypatch):
    monkeypatch.setattr(cli, "bundled", {}.get)
    announcement(Config())("http://h:80/files/")
    assert capsys.readouterr().out.splitlines()[1] == (
        "the page for people, which was not built (open it to see how): http://h:80/"
    )


@pytest.mark.parametrize(("host", "is_told"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False)])
def test_the_start_message_tells_that_others_reach_it(host, is_told, capsys):
    announcement(Config(host=host))("http://127.0.0.1:80/files/")
    assert ("others reach it" in capsys.readouterr().out) == is_told


@pytest.mark.skipif(not IS_SERVER_THERE, reason="this checkout has no tusd_py.app and tusd_py.server.serve")
def test_the_command_serves_says_so_and_stops(tmp_path):
    argv = [sys.executable, "-m", "tusd_py", "--port=0", "--upload-dir=there", "-base-path=/up"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            ready, page, uploads, stop = (server.stdout.readline() for _ in range(4))
            assert ready.startswith(f"tusd-py {__version__} is ready: http://127.0.0.1:")
            assert ready.endswith("/up/\n")
            assert page == f"the page for people: {ready.split()[-1].removesuffix('up/')}\n"
            assert uploads == f"uploads go to {tmp_path}/there (durability: power, locker: file)\n"
            assert stop.startswith("stop with Ctrl-C; ")
            connection = http.client.HTTPConnection(urlsplit(ready.split()[-1]).netloc, timeout=10)
            connection.request("OPTIONS", "/up/")
            assert connection.getresponse().getheader("Tus-Version") == "1.0.0"
            connection.close()
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0
