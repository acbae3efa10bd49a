"""The status API inside one process: its shapes, its refusals, and that its document tells the truth about both."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from tusd_py import Config, create_app
from tusd_py.errors import ConfigError
from tusd_py.web.api import openapi

VERSION = {"Tus-Resumable": "1.0.0"}
PATCH = VERSION | {"Content-Type": "application/offset+octet-stream"}

Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A client of a server of its own with these settings."""
    with ExitStack() as stack:

        def start(mount: str = "", **settings: Any) -> httpx.Client:
            app: Any = create_app(Config(upload_dir=str(tmp_path), locker="memory", **settings))
            if mount:
                app = Starlette(routes=[Mount(mount, app)])
            return stack.enter_context(TestClient(app, base_url="http://uploads.example"))

        yield start


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    return serve(list_uploads=True, list_hosts=("uploads.example",))


def make(client: httpx.Client, data: bytes = b"", length: int | None = None, path: str = "/files/", **meta: str) -> str:
    """The URL of a new upload that has these bytes already."""
    pairs = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in meta.items())
    size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    headers = VERSION | size | ({"Upload-Metadata": pairs} if pairs else {})
    url = client.post(path, headers=headers).headers["location"]
    if data:
        assert client.patch(url, headers=PATCH | {"Upload-Offset": "0"}, content=data).status_code == 204
    return url


def id_of(url: str) -> str:
    return url.rpartition("/")[2]


def status(client: httpx.Client, url: str) -> dict[str, Any]:
    answer = client.get(f"/api/uploads/{id_of(url)}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def check(document: dict[str, Any], name: str, value: object) -> None:
    """Hold `value` against a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


class TestOneUpload:
    def test_an_unfinished_one_says_what_is_missing(self, client: httpx.Client) -> None:
        url = make(client, b"hello", 12, filename="täst.bin", empty="")
        found = status(client, url)
        created, touched, expires = (found.pop(key) for key in ("created_at", "touched_at", "expires_at"))
        assert created <= touched < expires
        assert all(datetime.fromisoformat(each).tzinfo for each in (created, touched, expires))
        rate = found.pop("bytes_per_second")
        assert rate > 0
        assert found.pop("seconds_left") == round(7 / rate, 1)
        assert found == {
            "id": id_of(url),
            "url": url,
            "state": "receiving",
            "kind": "single",
            "offset": 5,
            "received": 5,
            "length": 12,
            "missing": {"start": 5, "end": 12},
            "metadata": {"filename": "täst.bin", "empty": ""},
            "digest": None,
            "is_active": True,
            "partials": [],
            "checks": [],
        }

    def test_a_finished_one_misses_nothing_and_never_expires(self, serve: Serve) -> None:
        client = serve(expose_api=True, digest="sha256")
        found = status(client, make(client, b"hello", 5))
        expected = {"state": "available", "offset": 5, "missing": None, "expires_at": None, "is_active": False}
        assert {key: found[key] for key in expected} == expected
        assert found["bytes_per_second"] is found["seconds_left"] is None
        assert found["digest"] == "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

    def test_a_deferred_length_leaves_the_end_open(self, client: httpx.Client) -> None:
        found = status(client, make(client, b"hello"))
        assert (found["length"], found["missing"]) == (None, {"start": 5, "end": None})
        assert found["seconds_left"] is None

    def test_partials_and_finals_say_so(self, client: httpx.Client) -> None:
        partials = [
            client.post("/files/", headers=VERSION | {"Upload-Length": "5", "Upload-Concat": "partial"}).headers[
                "location"
            ]
            for _ in range(2)
        ]
        final = client.post("/files/", headers=VERSION | {"Upload-Concat": f"final;{' '.join(partials)}"})
        found = status(client, final.headers["location"])
        assert (found["kind"], found["state"], found["partials"]) == ("final", "assembling", list(map(id_of, partials)))
        assert status(client, partials[0])["kind"] == "partial"

    def test_metadata_that_is_no_text_is_shown_as_far_as_it_is(self, client: httpx.Client) -> None:
        metadata = f"raw {base64.b64encode(bytes([0x61, 0xFF, 0x62])).decode()}"
        url = client.post("/files/", headers=VERSION | {"Upload-Length": "5", "Upload-Metadata": metadata}).headers[
            "location"
        ]
        assert status(client, url)["metadata"] == {"raw": "a\ufffdb"}

    def test_head_is_get_without_the_body(self, client: httpx.Client) -> None:
        url = f"/api/uploads/{id_of(make(client, b'', 5))}"
        head, get = client.head(url), client.get(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(get.content))

    @pytest.mark.parametrize("name", ["0" * 32, "x", "", "a/b", "%2e%2e%2fetc", "a%00b", "a" * 129, "uploads/x", "%ff"])
    def test_what_is_not_there_is_not_found(self, client: httpx.Client, name: str) -> None:
        answer = client.get(f"/api/uploads/{name}")
        assert (answer.status_code, answer.text.split(":")[0]) in {
            (404, "ERR_UPLOAD_NOT_FOUND"),
            (404, "ERR_NOT_FOUND"),
        }

    def test_a_removed_one_is_not_found_and_an_expired_one_is_gone(self, serve: Serve) -> None:
        client = serve(expose_api=True, expire_after=0.001)
        removed, expired = make(client, b"", 5), make(client, b"", 5)
        client.delete(removed, headers=VERSION)
        assert client.get(f"/api/uploads/{id_of(removed)}").status_code == 404
        assert client.get(f"/api/uploads/{id_of(expired)}").status_code in {404, 410}

    def test_errors_are_json_for_who_asks_for_it(self, client: httpx.Client) -> None:
        answer = client.get("/api/uploads/x", headers={"Accept": "application/json"})
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "ERR_UPLOAD_NOT_FOUND"

    def test_the_url_is_that_of_the_client(self, serve: Serve) -> None:
        client = serve(mount="/up", expose_api=True, behind_proxy=True, trusted_proxies=("0.0.0.0/0",))
        url = make(client, b"", 5, path="/up/files/")
        proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cdn.example"}
        assert client.get(f"/up/api/uploads/{id_of(url)}").json()["url"] == url
        found = client.get(f"/up/api/uploads/{id_of(url)}", headers=proxied).json()
        assert found["url"] in {f"https://cdn.example/up/files/{id_of(url)}", url}


class TestList:
    def test_pages_have_all_uploads_once(self, client: httpx.Client) -> None:
        urls = {make(client, b"", 5) for _ in range(7)}
        seen: list[str] = []
        query = "limit=3"
        while query:
            page = client.get(f"/api/uploads?{query}").json()
            seen += [each["url"] for each in page["uploads"]]
            query = page["next"] and str(httpx.QueryParams({"limit": 3, "cursor": page["next"]}))
        assert len(seen) == 7
        assert set(seen) == urls

    def test_filters_choose(self, client: httpx.Client) -> None:
        done = make(client, b"hello", 5, filename="Report Ü.PDF")
        other = make(client, b"", 5, name="notes.txt")
        nameless = make(client, b"", 5)
        moment = status(client, done)["created_at"]

        def listed(**filters: str) -> set[str]:
            answer = client.get("/api/uploads", params=filters)
            assert answer.status_code == 200, answer.text
            return {each["url"] for each in answer.json()["uploads"]}

        assert listed(state="available") == {done}
        assert listed(state="receiving") == {other, nameless}
        assert listed(name="ü.pdf") == {done}
        assert listed(name="NOTES") == {other}
        assert listed(created_before=moment) == set()
        assert listed(created_after=moment) == {done, other, nameless}
        assert listed(created_after="2999-01-01") == set()
        assert listed(created_before="2999-01-01T00:00:00+02:00", state="available", name="report") == {done}

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("limit=", "limit"),
            ("limit=1&limit=2", "limit"), ("limit=%2B1", "limit"), ("limit=\u0661", "limit"),
            ("state=gone", "state"), ("name=", "name"), ("name=" + "x" * 201, "name"),
            ("created_after=yesterday", "created_after"),
            ("created_before=0000-99-99", "created_before"), ("cursor=", "cursor"), ("cursor=a%00", "cursor"),
            ("foo=1", "foo"), ("state", "query"), ("name=%ff", "query"),
            ("&".join(f"a{n}=1" for n in range(300)), "query"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_named(self, client: httpx.Client, query: str, named: str) -> None:
        answer = client.get(f"/api/uploads?{query}")
        assert answer.status_code == 400
        assert answer.text.startswith("ERR_INVALID_QUERY: ")
        assert named in answer.text

    def test_nobody_lists_unless_the_operator_says_so(self, serve: Serve) -> None:
        client = serve(expose_api=True)
        make(client, b"", 5)
        for path in ("/api/uploads", "/api/events", "/api/uploads?limit=0"):
            answer = client.get(path)
            assert (answer.status_code, answer.text.split(":")[0]) == (403, "ERR_LISTING_REFUSED")
            assert "--list-uploads" in answer.text

    def test_a_page_of_another_site_does_not_list(self, client: httpx.Client) -> None:
        assert client.get("/api/uploads", headers={"Origin": "http://uploads.example"}).status_code == 200
        for origin in ("https://uploads.example", "http://evil.example", "null"):
            assert client.get("/api/uploads", headers={"Origin": origin}).status_code == 403, origin

    def test_a_page_of_another_site_is_known_by_how_it_asks(self, client: httpx.Client) -> None:
        for site, mode, expected in [
            ("cross-site", "no-cors", 403),
            ("same-site", "cors", 403),
            ("same-origin", "cors", 200),
            ("none", "navigate", 200),
            ("cross-site", "navigate", 200),
        ]:
            answer = client.get("/api/uploads", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})
            assert answer.status_code == expected, (site, mode)

    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1:8080", "[::1]:8080", "localhost", "gpu-box:1080", "Files.Lan", "files.lan.:80", "files.example"],
    )
    def test_all_are_listed_under_names_that_are_the_servers(self, serve: Serve, host: str) -> None:
        client = serve(list_uploads=True, list_hosts=("files.LAN",), host="files.example")
        assert client.get("/api/uploads", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("path", ["/api/uploads", "/api/events"])
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example.", "127.0.0.1.evil.example:8080", "files.lan.evil.example"]
    )
    def test_a_name_that_a_stranger_made_lead_here_does_not_list(self, serve: Serve, path: str, host: str) -> None:
        """DNS rebinding: to the browser the stranger's page and we are of one site then."""
        client = serve(list_uploads=True, list_hosts=("files.lan",))
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.text.split(":")[0]) == (403, "ERR_LISTING_REFUSED")
        assert answer.text.strip().endswith(f"--list-hosts {host.partition(':')[0].rstrip('.')}")

    def test_names_need_not_be_told_where_tls_proves_them(self, serve: Serve) -> None:
        headers = {"Host": "evil.example", "X-Forwarded-Proto": "https"}
        assert serve(list_uploads=True).get("/api/uploads", headers=headers).status_code == 403
        proxied = serve(list_uploads=True, behind_proxy=True, trusted_proxies=("127.0.0.1",))
        assert proxied.get("/api/uploads", headers=headers).status_code == 200

    def test_one_that_cannot_be_read_does_not_hide_the_others(
        self, client: httpx.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = make(client, b"", 5)
        (tmp_path / f"{'f' * 32}.info").write_text("{")
        (tmp_path / "no id at all.info").write_text("{")
        assert [each["url"] for each in client.get("/api/uploads").json()["uploads"]] == [good]


class TestDocument:
    def test_it_is_openapi(self, client: httpx.Client) -> None:
        document = client.get("/api/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        validate(document)

    def test_what_is_answered_is_what_it_says(self, client: httpx.Client) -> None:
        document = client.get("/api/openapi.json").json()
        for url in (make(client, b"he", 5, filename="x"), make(client, b"hello", 5), make(client)):
            check(document, "Status", status(client, url))
        check(document, "Page", client.get("/api/uploads").json())
        check(document, "Problem", client.get("/api/uploads/x", headers={"Accept": "application/json"}).json())
        with pytest.raises(Exception, match="is a required property"):
            check(document, "Status", {"id": "x"})

    def test_every_field_says_what_it_means(self) -> None:
        document = openapi.document("/api/", "1")
        for schema in (document["components"]["schemas"][name] for name in ("Status",)):
            for name, field in schema["properties"].items():
                assert field.get("description") or name == "id", name

    def test_the_readable_page_has_it_all_and_asks_nobody(self, client: httpx.Client) -> None:
        answer = client.get("/api/")
        assert client.get("/api").text == answer.text
        assert answer.headers["content-type"].startswith("text/html")
        document = client.get("/api/openapi.json").json()
        for path in document["paths"]:
            assert path in answer.text
        for name in document["components"]["schemas"]["Status"]["properties"]:
            assert f"<code>{name}</code>" in answer.text
        assert "<script" not in answer.text
        assert re.findall(r"(?:src|href)='([^#'][^']*)'", answer.text) == ["/api/openapi.json"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]

    def test_a_mounted_one_says_where_it_is(self, serve: Serve) -> None:
        client = serve(mount="/up", expose_api=True)
        assert client.get("/up/api/openapi.json").json()["servers"] == [{"url": "/up"}]
        assert "href='/up/api/openapi.json'" in client.get("/up/api/").text


class TestReach:
    def test_it_is_off_unless_asked_for(self, serve: Serve) -> None:
        client = serve(disable_page=True)
        for path in ("/api/", "/api/uploads", "/api/events", "/api/openapi.json"):
            assert client.get(path).status_code == 404

    def test_it_is_on_for_the_page_but_lists_nothing(self, serve: Serve) -> None:
        client = serve()
        assert client.get("/api/openapi.json").status_code == 200
        assert client.get("/api/uploads").status_code == 403

    def test_it_may_be_elsewhere_even_beside_uploads_at_the_root(self, serve: Serve) -> None:
        client = serve(expose_api=True, api_path="/status", base_path="/")
        url = make(client, b"hello", 5, path="/")
        assert client.get(f"/status/uploads/{id_of(url)}").json()["url"] == url
        assert client.get("/status/openapi.json").status_code == 200
        assert client.get(url).content == b"hello"

    def test_it_does_not_swallow_the_uploads(self) -> None:
        with pytest.raises(ConfigError, match="--base-path '/api/files/' lies in --api-path '/api/'"):
            Config(expose_api=True, base_path="/api/files/")
        Config(base_path="/api/files/", disable_page=True)

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
    @pytest.mark.parametrize("path", ["", "uploads", "events", "uploads/x", "openapi.json"])
    def test_it_only_reads(self, client: httpx.Client, method: str, path: str) -> None:
        answer = client.request(method, f"/api/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")

    def test_pages_of_other_sites_may_ask_for_their_uploads(self, client: httpx.Client) -> None:
        url = make(client, b"", 5)
        origin = {"Origin": "https://app.example"}
        answer = client.get(f"/api/uploads/{id_of(url)}", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        preflight = client.options("/api/uploads/x", headers=origin | {"Access-Control-Request-Method": "GET"})
        assert preflight.status_code == 204
        assert "GET" in preflight.headers["access-control-allow-methods"]

    def test_unknown_resources_are_not_found(self, client: httpx.Client) -> None:
        for path in ("/api/x", "/api//uploads", "/api/uploads/", "/api/events/", "/api/openapi.json/x"):
            assert client.get(path).status_code == 404, path
        assert json.loads(client.get("/api/x", headers={"Accept": "application/json"}).text)["code"] == "ERR_NOT_FOUND"
