"""The settings for nginx that are shipped, and those that nginx has by itself, before a real server."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from certificates import make_certificate
from cutting_proxy import CuttingProxy
from nginxserver import MissingNginx, Nginx, free_port
from upload_server import ROOT, UploadServer

SHIPPED = ROOT / "deploy" / "nginx" / "tusd-py.conf"
Run = Callable[..., tuple[int, str, str]]


@contextmanager
def nginx(folder: Path, site: str, port: int) -> Iterator[Nginx]:
    folder.mkdir()
    try:
        running = Nginx(folder, site, port)
    except MissingNginx as error:
        pytest.skip(f"missing: {error}")
    with running:
        yield running


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "uploads", "--behind-proxy", "--trusted-proxies", "127.0.0.1") as server:
        yield server


@pytest.fixture
def shipped(tmp_path: Path, proxied: UploadServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of uploads behind the shipped settings, with the places of this test in them."""
    certificate, key = tmp_path / "public.pem", tmp_path / "private.pem"
    make_certificate(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    port = free_port()
    places = {
        r"listen 80;": f"listen 127.0.0.1:{free_port()};",
        r"listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        r"server 127\.0\.0\.1:8080;": f"server 127.0.0.1:{proxied.port};",
        r"/etc/ssl/uploads\.example\.com\.pem": str(certificate),
        r"/etc/ssl/private/uploads\.example\.com\.key": str(key),
    }
    site = SHIPPED.read_text()
    for place, here in places.items():
        site, count = re.subn(place, here, site)
        assert count == 1, place
    with nginx(tmp_path / "nginx", site.replace("uploads.example.com", "localhost"), port):
        yield f"https://localhost:{port}/files/"


def test_the_shipped_settings_pass_the_check(shipped: str, command: Run) -> None:
    code, out, err = command("check", shipped, "--origin", "https://app.example.com", "--pause", "1s")
    assert (code, err) == (0, "")
    assert out.startswith(f"{shipped}: TLS with a trusted certificate, answered by nginx/")
    assert not [line for line in out.splitlines() if line.startswith(("  NO ", "  unclear"))]


def test_a_cut_upload_goes_on_through_the_shipped_settings(
    shipped: str, proxied: UploadServer, tmp_path: Path, command: Run
) -> None:
    content = random.Random(3).randbytes((20 << 20) + 321)
    (tmp_path / "source.bin").write_bytes(content)
    with CuttingProxy(urlsplit(shipped).port or 0) as proxy:
        proxy.break_after(11_000_000, how="reset")
        url = f"https://localhost:{proxy.port}/files/"
        code, out, err = command("upload", str(tmp_path / "source.bin"), url)
    assert code == 0, err
    assert "; trying again in 0.5 s" in err
    proxied.check_content(out.strip(), content)
    assert proxy.sent_bytes < len(content) + 4_000_000  # else the cut one brought nothing


@pytest.mark.usefixtures("impatient")
def test_what_nginx_does_by_itself_is_found(tmp_path: Path, proxied: UploadServer, command: Run) -> None:
    port = free_port()
    site = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{proxied.port}; }} }}"
    with nginx(tmp_path / "nginx", site, port):
        code, out, _ = command("check", f"http://127.0.0.1:{port}/files/", "--pause", "0")
    assert code == 1
    told = " ".join(out.split())
    for each in (
        "NO What came before a cut counts nothing of the 393,216 bytes",
        "NO Large bodies pass 2 MiB: PATCH answered 413, from nginx/",
        "NO Upload-Metadata passes taken, but then HEAD answered 502, from nginx/",
        "nginx: proxy_request_buffering off;",
        "nginx: client_max_body_size 0;",
        "proxy_buffer_size 64k;",
    ):
        assert each in told
    assert told.endswith("missing: What came before a cut counts; Large bodies pass; Upload-Metadata passes")
    assert not list(proxied.directory.glob("*.info"))
