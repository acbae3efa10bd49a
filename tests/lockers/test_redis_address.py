"""The URLs of a RedisLocker: what is read from them, what is refused and how, and that passwords stay inside."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tusd_py.errors import ConfigError
from tusd_py.lockers.redis import RedisLocker
from tusd_py.lockers.redis.address import parse


@pytest.mark.parametrize(
    ("url", "form", "hosts", "service", "options"),
    [
        ("redis://cache", "", [("cache", 6379)], "", {"db": 0}),
        ("redis://cache:7000/3", "", [("cache", 7000)], "", {"db": 3}),
        ("redis://[::1]:7000/", "", [("::1", 7000)], "", {"db": 0}),
        ("redis://[::1]", "", [("::1", 6379)], "", {"db": 0}),
        ("redis://:se%2Fcret@cache", "", [("cache", 6379)], "", {"db": 0, "password": "se/cret"}),
        ("redis://me:a%40b@cache/1", "", [("cache", 6379)], "", {"db": 1, "username": "me", "password": "a@b"}),
        ("rediss://cache", "", [("cache", 6379)], "", {"db": 0, "ssl": True}),
        (
            "rediss://cache?ssl_ca_certs=/ca.pem&ssl_check_hostname=no&ssl_cert_reqs=none",
            "",
            [("cache", 6379)],
            "",
            {"db": 0, "ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_cert_reqs": "none"},
        ),
        ("unix:///run/redis.sock", "unix", [], "", {"db": 0, "unix_socket_path": "/run/redis.sock"}),
        ("unix://:pw@/run/r.sock?db=2", "unix", [], "", {"db": 2, "unix_socket_path": "/run/r.sock", "password": "pw"}),
        ("redis+sentinel://a:1,b/locks", "sentinel", [("a", 1), ("b", 26379)], "locks", {"db": 0}),
        ("redis+sentinel://:pw@a/locks/4", "sentinel", [("a", 26379)], "locks", {"db": 4, "password": "pw"}),
        ("rediss+sentinel://a/locks", "sentinel", [("a", 26379)], "locks", {"db": 0, "ssl": True}),
        ("redis+cluster://a:1,b", "cluster", [("a", 1), ("b", 6379)], "", {}),
        ("rediss+cluster://:pw@a", "cluster", [("a", 6379)], "", {"password": "pw", "ssl": True}),
    ],
)
def test_read(url, form, hosts, service, options):
    address = parse(url)
    assert (address.form, address.hosts, address.service, address.options) == (form, hosts, service, options)
    RedisLocker(url)


def test_password_of_the_sentinels():
    address = parse("redis+sentinel://:one@a/locks?sentinel_password=two")
    assert address.options["password"] == "one"
    assert address.sentinel_options == {"password": "two"}


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "unknown scheme"),
        ("localhost:6379", "unknown scheme"),
        ("http://cache", "unknown scheme 'http'"),
        ("redis+magic://cache", "unknown scheme 'redis+magic'"),
        ("redis+://cache", "unknown scheme 'redis+'"),
        ("redis://", "a host is missing"),
        ("redis://:6379", "a host is missing"),
        ("redis://cache:port", "a port is not a number"),
        ("redis://cache:70000", "a port is not a number"),
        ("redis://cache:", "a port is not a number"),
        ("redis://a,b", "several hosts"),
        ("redis://cache/first", "the database 'first' is not a number"),
        ("redis://cache/1/2", "the database '1/2' is not a number"),
        ("redis://me@cache", "a user without a password"),
        ("redis://cache?timeout=3", "unknown option 'timeout'"),
        ("redis://cache?ssl_ca_certs=/ca.pem", "is for TLS"),
        ("rediss://cache?ssl_cert_reqs=maybe", "none, optional or required"),
        ("redis://cache?", None),
        ("redis://cache#1", "'#'"),
        ("unix://run/redis.sock", "absolute path"),
        ("unix:///", "absolute path"),
        ("unix:///run/redis.sock?db=x", "not a number"),
        ("redis+sentinel://a,b", "service is missing"),
        ("redis+sentinel://a/locks/x", "not a number"),
        ("redis+cluster://a/1", "a Cluster has no database"),
    ],
)
def test_refused(url, complaint):
    if complaint is None:
        parse(url)
        return
    with pytest.raises(ConfigError) as caught:
        RedisLocker(url)
    assert complaint in str(caught.value)
    assert "redis+sentinel://host:port" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@cache:port",
        "redis://:s3cret/more@cache",
        "redis://:s3cret#more@cache",
        "redis://:s3cret?more@cache",
        "redis://:s3cret@[::1",
        "redes://:s3cret@cache",
        "redis://s3cret@cache",
        "unix://:s3cret@relative/path",
        "redis+sentinel://:s3cret@a?sentinel_password=s3cret",
        "redis+sentinel://:s3cret@a/b?sentinel_pasword=s3cret",
    ],
)
def test_password_is_not_in_the_complaint(url):
    with pytest.raises(ConfigError) as caught:
        RedisLocker(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:s3cret@cache/1",
        "unix://:s3cret@/run/redis.sock",
        "redis+sentinel://:s3cret@a,b/locks?sentinel_password=s3cret",
        "redis+cluster://:s3cret@a,b",
    ],
)
def test_password_is_not_shown(url):
    address = parse(url)
    assert "s3cret" not in repr(address)
    assert "s3cret" not in address.shown
    assert "s3cret" not in repr(RedisLocker(url))


@pytest.mark.parametrize("prefix", ["", "{tus}", "a b"])
def test_wrong_prefix(prefix):
    with pytest.raises(ConfigError, match="prefix"):
        RedisLocker("redis://cache", prefix)


def test_wrong_lease():
    with pytest.raises(ConfigError, match="at least 1 s"):
        RedisLocker("redis://cache", lease_seconds=0.5)


def test_without_the_extra():
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from tusd_py.lockers.redis import RedisLocker\n"
        "from tusd_py.errors import ConfigError\n"
        "try: RedisLocker('redis://cache')\n"
        "except ConfigError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "pip install 'tusd-py[redis]'" in said
