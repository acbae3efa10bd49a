"""Our signatures are botocore's, for whatever is signed."""

from __future__ import annotations

import datetime as dt
import string

import pytest
from botocore import auth
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.stores.s3.signing import UNSIGNED, Keys, encode_path, encode_query, signed_headers

NOW = dt.datetime(2026, 11, 22, 4, 5, 6, tzinfo=dt.UTC)

keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
values = st.text(string.ascii_letters + string.digits + " /=+,;:._-", max_size=30)
headers = st.dictionaries(
    st.from_regex(r"x-amz-[a-z]{1,9}|content-type|range|if-match", fullmatch=True), values, max_size=5
)


class _Unsigned(S3SigV4Auth):
    def payload(self, _request: AWSRequest) -> str:
        return UNSIGNED


def _botocores(
    keys: Keys, method: str, url: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    request = AWSRequest(method=method, url=url, headers=headers)
    with monkeypatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: NOW)
        _Unsigned(Credentials(keys.access_key, keys.secret_key, keys.token), "s3", "eu-west-3").add_auth(request)
    return dict(request.headers.items())


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "DELETE"]),
    key=keys,
    query=st.dictionaries(st.sampled_from(["partNumber", "uploadId", "list-type"]), values, max_size=3),
    headers=headers,
    token=st.one_of(st.none(), st.just("a/token+==")),
)
def test_a_signature_is_botocores(
    method: str, key: str, query: dict[str, str], headers: dict[str, str], token: str | None
) -> None:
    secret = Keys("AKIA", "se/cret+key", token)
    target = "/bucket/" + encode_path(key) + ("?" + encode_query(query) if query else "")
    ours = signed_headers(secret, "eu-west-3", method, target, "s3.example:9000", headers, NOW)
    theirs = _botocores(secret, method, "https://s3.example:9000" + target, headers, pytest.MonkeyPatch())
    assert ours["authorization"].replace(", ", ",") == theirs["Authorization"].replace(", ", ",")
    assert ours["x-amz-date"] == theirs["X-Amz-Date"]
    assert ours.get("x-amz-security-token") == token


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(Keys("AKIA", "hush", "hush-too"))
