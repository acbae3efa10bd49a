"""Concatenation (N)."""

from __future__ import annotations

import pytest
from client import Chunks, Response
from target import OFFSET_TYPE, Target, metadata, noise

pytestmark = pytest.mark.needs("concatenation")

unfinished = pytest.mark.needs("concatenation-unfinished")

PARTIAL = ("Upload-Concat", "partial")


def part(target: Target, content: bytes) -> str:
    return target.upload(content, [PARTIAL])


def join(target: Target, *urls: str, fields: list[tuple[str, str]] | None = None, body: bytes = b"") -> Response:
    return target.post([("Upload-Concat", "final;" + " ".join(urls)), *(fields or [])], body)


def final(target: Target, *urls: str, fields: list[tuple[str, str]] | None = None) -> str:
    answer = join(target, *urls, fields=fields)
    assert answer.status == 201, answer
    return target.path_of(answer.header("Location"))


def test_N3_final_is_its_partials_in_the_listed_order(target: Target) -> None:
    first, second = part(target, b"hello "), part(target, b"world")
    target.check_content(final(target, first, second), b"hello world")
    target.check_content(final(target, second, first), b"worldhello ")


def test_N3_one_partial(target: Target) -> None:
    target.check_content(final(target, part(target, b"hello")), b"hello")


def test_N3_empty_partials(target: Target) -> None:
    empty = target.create(0, [PARTIAL])
    target.check_content(final(target, empty, part(target, b"x"), empty), b"x")


def test_N3_only_empty_partials(target: Target) -> None:
    target.check_content(final(target, target.create(0, [PARTIAL])), b"")


def test_N3_large_partials(target: Target) -> None:
    contents = [noise(400_001, seed) for seed in range(3)]
    target.check_content(final(target, *[part(target, content) for content in contents]), b"".join(contents))


def test_N3_many_partials(target: Target) -> None:
    contents = [noise(seed % 7 + 1, seed) for seed in range(40)]
    target.check_content(final(target, *[part(target, content) for content in contents]), b"".join(contents))


def test_N5_repeated_partial(target: Target) -> None:
    path = part(target, b"ab")
    target.check_content(final(target, path, path, path), b"ababab")


def test_N5_a_partial_in_several_finals(target: Target) -> None:
    shared, other = part(target, b"ab"), part(target, b"cd")
    finals = [final(target, shared), final(target, shared, other), final(target, other, shared)]
    for path, content in zip(finals, [b"ab", b"abcd", b"cdab"], strict=True):
        target.check_content(path, content)


def test_N4_metadata_of_partials_is_not_copied(target: Target) -> None:
    path = target.upload(b"ab", [PARTIAL, ("Upload-Metadata", metadata(filename="part.txt"))])
    assert target.head(final(target, path)).header("Upload-Metadata") is None


def test_N4_C9_final_has_its_own_metadata(target: Target) -> None:
    path = target.upload(b"ab", [PARTIAL, ("Upload-Metadata", metadata(filename="part.txt"))])
    value = metadata(filename="whole.txt")
    assert target.head(final(target, path, fields=[("Upload-Metadata", value)])).header("Upload-Metadata") == value


@pytest.mark.parametrize("offset", [0, 2, 5])
@pytest.mark.parametrize("body", [b"", b"x"], ids=["empty", "body"])
def test_N6_patch_of_final_is_403_and_changes_nothing(target: Target, offset: int, body: bytes) -> None:
    path = part(target, b"ab")
    joined = final(target, path)
    assert target.patch(joined, offset, body).status == 403
    target.check_content(joined, b"ab")
    target.check_content(path, b"ab")


def test_N7_N10_head_of_finished_final(target: Target) -> None:
    path = part(target, b"abc")
    answer = target.head(final(target, path))
    assert answer.header("Upload-Offset") == answer.header("Upload-Length") == "3"
    assert answer.header("Upload-Concat") == f"final;{path}"


def test_N8_N10_head_of_partial(target: Target) -> None:
    answer = target.head(target.create(5, [PARTIAL]))
    assert answer.header("Upload-Concat") == "partial"
    assert answer.header("Upload-Offset") == "0"


def test_N10_no_upload_concat_on_ordinary_uploads(target: Target) -> None:
    assert target.head(target.create(5)).header("Upload-Concat") is None


def test_N10_N11_urls_may_be_absolute_and_come_back_as_sent(target: Target) -> None:
    first, second = part(target, b"ab"), part(target, b"cd")
    urls = f"http://{target.authority}{first} {second}"
    path = final(target, urls)
    assert target.head(path).header("Upload-Concat") == f"final;{urls}"
    target.check_content(path, b"abcd")


def test_N11_superfluous_spaces_and_slashes(target: Target) -> None:
    first, second = part(target, b"ab"), part(target, b"cd")
    target.check_content(final(target, f" {first}/ ", f" {second}"), b"abcd")


def test_N11_percent_encoded_path(target: Target) -> None:
    path = part(target, b"ab")
    target.check_content(final(target, f"{path[:-1]}%{ord(path[-1]):02x}"), b"ab")


@pytest.mark.parametrize("length", ["2", "3"])
def test_N11_final_with_length_is_400(target: Target, length: str) -> None:
    answer = join(target, part(target, b"ab"), fields=[("Upload-Length", length)])
    assert answer.status == 400
    assert answer.header("Location") is None


@pytest.mark.needs("creation-defer-length")
def test_N11_final_with_deferred_length_is_400(target: Target) -> None:
    assert join(target, part(target, b"ab"), fields=[("Upload-Defer-Length", "1")]).status == 400


def test_N6_final_with_body_is_403(target: Target) -> None:
    path = part(target, b"ab")
    assert join(target, path, fields=[("Content-Type", OFFSET_TYPE)], body=b"cd").status == 403
    answer = target.post([("Upload-Concat", f"final;{path}"), ("Content-Type", OFFSET_TYPE)], Chunks((b"cd",)))
    assert answer.status == 403
    target.check_content(path, b"ab")


def test_N12_final_of_a_final_is_400(target: Target) -> None:
    assert join(target, final(target, part(target, b"ab"))).status == 400


def test_N12_ordinary_upload_in_final_is_400(target: Target) -> None:
    assert join(target, part(target, b"ab"), target.upload(b"cd")).status == 400


def test_N3_unknown_partial_is_400(target: Target) -> None:
    assert join(target, part(target, b"ab"), target.unknown).status == 400


@pytest.mark.needs("termination")
def test_N3_deleted_partial_is_400(target: Target) -> None:
    path = part(target, b"ab")
    target.ask("DELETE", path)
    assert join(target, path).status == 400


@pytest.mark.parametrize(
    "value",
    [
        "", "none", "Partial", "final", "final;", "final; ", "final;;", "Final;{0}", "finals;{0}", "partial;{0}",
        "partial ,final;{0}", "final;/", "final;{base}", "final;/elsewhere/{1}", "final;{0}.info", "final;{1}%00",
        "final;{0}/../{1}", "final;../{1}", "final;{base}../{1}", "final;{base}%2e%2e%2f{1}", "final;{base}/etc/passwd",
        "final;file:///etc/passwd", "final;http://[bad{0}", "final;%zz", "final;\xe9", "final;{0}{0}{0}",
    ],
)  # fmt: skip
def test_N3_F35_bad_value_is_400(target: Target, value: str) -> None:
    path = part(target, b"ab")
    fields = [("Upload-Length", "2")] if value.lower() in ("partial", "", "none") else []
    text = value.format(path, path.rpartition("/")[2], base=target.base)
    answer = target.post([("Upload-Concat", text), *fields])
    assert answer.status == 400
    assert answer.header("Location") is None


@pytest.mark.needs("max-size")
def test_C10_final_above_the_maximum_is_413(target: Target) -> None:
    count = target.max_size // 2_000_000 + 1
    if count > 600:
        pytest.skip("the limit is too high to be passed by repeating a partial")
    path = part(target, noise(2_000_000))
    assert join(target, *[path] * count).status == 413


def test_F16_same_final_again_has_the_same_location(target: Target) -> None:
    first, second = part(target, b"ab"), part(target, b"cd")
    fields = [("Upload-Metadata", metadata(filename="a"))]
    path = final(target, first, second, fields=fields)
    assert final(target, first, second, fields=fields) == path
    target.check_content(path, b"abcd")


def test_F16_other_order_or_metadata_is_another_upload(target: Target) -> None:
    first, second = part(target, b"ab"), part(target, b"cd")
    paths = {
        final(target, first, second),
        final(target, second, first),
        final(target, first, second, fields=[("Upload-Metadata", metadata(filename="a"))]),
    }
    assert len(paths) == 3


@pytest.mark.needs("termination")
def test_N5_F16_final_outlives_its_partials(target: Target) -> None:
    paths = [part(target, b"ab"), part(target, b"cd")]
    joined = final(target, *paths)
    for path in paths:
        assert target.ask("DELETE", path).status in (204, 404, 410)
    target.check_content(joined, b"abcd")


@pytest.mark.needs("termination")
def test_D2_deleted_final_leaves_its_partials(target: Target) -> None:
    path = part(target, b"ab")
    joined = final(target, path)
    assert target.ask("DELETE", joined).status == 204
    assert target.head(joined).status in (404, 410)
    target.check_content(path, b"ab")


@pytest.mark.needs("creation-with-upload")
def test_W3_partial_with_its_bytes(target: Target) -> None:
    path = target.create(2, [PARTIAL], b"ab")
    target.check_content(final(target, path), b"ab")


def test_N1_unfinished_partial_without_the_extension_is_400(target: Target) -> None:
    if "concatenation-unfinished" in target.extensions:
        pytest.skip("the server announces concatenation-unfinished")
    path = target.create(5, [PARTIAL])
    target.patch(path, 0, b"he")
    assert join(target, path).status == 400


@unfinished
def test_N7_N9_N10_unfinished_final_has_no_offset_until_it_is_finished(target: Target) -> None:
    first, second = part(target, b"hello "), target.create(5, [PARTIAL])
    path = final(target, first, second)
    for sent in range(5):
        answer = target.head(path)
        assert answer.status in (200, 204)
        assert answer.header("Upload-Offset") is None
        assert answer.header("Upload-Length") == "11"
        assert answer.header("Upload-Concat") == f"final;{first} {second}"
        assert target.patch(second, sent, b"world"[sent : sent + 1]).status == 204
    target.check_content(path, b"hello world")


@unfinished
def test_N6_patch_of_unfinished_final_is_403(target: Target) -> None:
    partial = target.create(5, [PARTIAL])
    path = final(target, partial)
    assert target.patch(path, 0, b"hello").status == 403
    assert target.patch(partial, 0, b"hello").status == 204
    target.check_content(path, b"hello")


@unfinished
@pytest.mark.needs("download")
def test_N7_get_of_unfinished_final_is_400(target: Target) -> None:
    assert target.ask("GET", final(target, target.create(5, [PARTIAL]))).status == 400


@unfinished
@pytest.mark.needs("creation-defer-length")
def test_N9_length_is_told_when_it_is_known(target: Target) -> None:
    partial = target.create(None, [PARTIAL])
    path = final(target, partial)
    assert target.head(path).header("Upload-Length") is None
    assert target.patch(partial, 0, b"he", [("Upload-Length", "5")]).status == 204
    assert target.head(path).header("Upload-Length") == "5"
    assert target.patch(partial, 2, b"llo").status == 204
    target.check_content(path, b"hello")


@unfinished
def test_N3_partials_finished_in_another_order(target: Target) -> None:
    contents = [noise(5000, seed) for seed in range(4)]
    partials = [target.create(5000, [PARTIAL]) for _ in contents]
    path = final(target, *partials)
    for index in (2, 0, 3, 1):
        assert target.patch(partials[index], 0, contents[index]).status == 204
    target.check_content(path, b"".join(contents))


@unfinished
@pytest.mark.needs("max-size")
def test_C10_unfinished_final_above_the_maximum_is_413(target: Target) -> None:
    partials = [target.create(target.max_size // 2 + 1, [PARTIAL]) for _ in range(2)]
    assert join(target, *partials).status == 413
