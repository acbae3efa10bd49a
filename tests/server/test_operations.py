"""What those see who run the server: metrics, health and log lines of the real command, over its workers."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.metrics.parsed import samples
from tests.server.supervised import PATIENCE_SECONDS, Run, Supervised, free_port, wait_until

TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def numbers(port: int) -> dict[str, float]:
    """Each sample without labels, and those with labels summed up."""
    found: dict[str, float] = {}
    for sample in samples(get(port, "/metrics")[1]):
        found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def upload(server: Supervised, body: bytes, **headers: str) -> None:
    """One upload on a connection, and so on a worker, of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/files/", body, TUS | {"Upload-Length": str(len(body))} | headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201
    connection.close()


def test_any_worker_shows_the_numbers_of_all_at_once(run: Run) -> None:
    server = run("--port", "0", "--workers", "2")
    for _ in range(20):
        upload(server, b"hello")
    for _ in range(8):  # asked of either
        seen = numbers(server.port)
        assert seen["tusd_uploads_created"] == seen["tusd_uploads_finished"] == 20
        assert seen["tusd_bytes_received"] == 100
        assert seen["tusd_requests_total"] == 20


def test_what_a_killed_worker_counted_stays_counted(run: Run) -> None:
    server = run("--port", "0", "--workers", "2")
    for _ in range(20):
        upload(server, b"hello")
    for victim in server.workers():
        os.kill(victim, signal.SIGKILL)
    server.wait_for_log("WorkerReady", 4)
    upload(server, b"hello")
    wait_until(lambda: numbers(server.port)["tusd_connections_open"] == 1)  # the one that asks
    assert numbers(server.port)["tusd_uploads_finished"] == 21


def test_the_bytes_of_a_body_show_while_it_lasts(run: Run) -> None:
    server = run("--port", "0", "--workers", "2")
    with server.connect() as connection:
        connection.sendall(
            b"POST /files/ HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 100000\r\n"
            b"Content-Type: application/offset+octet-stream\r\nContent-Length: 100000\r\n\r\n" + bytes(60_000)
        )
        wait_until(lambda: numbers(server.port)["tusd_bytes_received"] == 60_000)
        assert numbers(server.port)["tusd_py_bodies_open"] == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_and_health_have_a_port_of_their_own_where_wanted(run: Run, workers: str) -> None:
    port = free_port()
    server = run("--port", "0", "--workers", workers, "--metrics-port", str(port), "--max-connections", workers)
    with server.connect(), server.connect():  # all there are
        assert get(port, "/healthz") == (200, "ok\n")
        assert get(port, "/readyz") == (200, "ok\n")
        assert "tusd_connections_open" in get(port, "/metrics")[1]
    assert get(port, "/files/")[0] == 404
    wait_until(lambda: get(server.port, "/metrics")[0] == 404)


def test_health_is_beside_the_uploads_otherwise(run: Run) -> None:
    server = run("--port", "0", "--workers", "1", "--expose-metrics=false")
    assert get(server.port, "/healthz") == (200, "ok\n")
    assert get(server.port, "/readyz") == (200, "ok\n")
    assert get(server.port, "/metrics")[0] == 404


def test_a_storage_that_cannot_be_written_is_not_ready_but_alive(run: Run) -> None:
    server = run("--port", "0", "--workers", "2")
    aside = server.directory.with_name("aside")
    server.directory.rename(aside)
    server.directory.write_text("in the way")
    wait_until(lambda: get(server.port, "/readyz")[0] == 503)
    _, said = get(server.port, "/readyz")
    assert said.startswith("not ready: ")
    assert get(server.port, "/healthz")[0] == 200
    server.directory.unlink()
    aside.rename(server.directory)
    wait_until(lambda: get(server.port, "/readyz")[0] == 200)


def test_one_line_for_each_request_with_the_id_that_the_client_gave(run: Run) -> None:
    server = run("--port", "0", "--workers", "2", "--log-format", "json")
    upload(server, b"hello", **{"X-Request-ID": "mine-1"})
    server.wait_for_log("ResponseOutgoing")
    lines = [json.loads(line) for line in server.log.splitlines()]
    mine = [line for line in lines if line.get("request_id") == "mine-1"]
    assert [line["event"] for line in mine] == ["UploadCreated", "UploadFinished", "ResponseOutgoing"]
    last = mine[-1]
    assert (last["method"], last["path"], last["status"], last["bytes"]) == ("POST", "/files/", 201, 5)
    assert last["id"] == mine[0]["id"]
    assert last["client"] == "127.0.0.1"
    assert 0 < last["seconds"] < 5
    assert get(server.port, f"/files/{last['id']}", **{"X-Request-ID": "mine-2"})[1] == "hello"
    server.wait_for_log('"mine-2"')
    (line,) = (json.loads(line) for line in server.log.splitlines() if '"mine-2"' in line)
    assert (line["method"], line["status"], line["bytes"], line["id"]) == ("GET", 200, 5, last["id"])


@contextmanager
def collector() -> Iterator[tuple[int, list[bytes]]]:
    """Takes OTLP, and keeps what it got."""
    got: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, got
        server.shutdown()
        thread.join()


def test_spans_reach_a_collector_before_the_end(run: Run) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="missing: opentelemetry (pip install 'tusd-py[otel]')")
    with collector() as (port, got):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        server = run("--port", "0", "--workers", "2", "--tracing", environ=environ)
        upload(server, b"hello")
        assert get(server.port, "/healthz")[0] == 200
        assert server.end()[0] == 0
    assert sum(each.count(b"POST /files/") for each in got) == 1
    assert not any(b"healthz" in each for each in got)


def test_a_collector_that_is_away_does_not_hold_up_the_end(run: Run) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="missing: opentelemetry (pip install 'tusd-py[otel]')")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    server = run("--port", "0", "--workers", "1", "--tracing", environ=environ)
    upload(server, b"hello")
    assert server.end()[0] == 0  # patience is 15 s
