"""Events as CloudEvents, by the rules of their text: there is no library in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from rawreceiver import answer, hooked, receiving, sample

from tusd_py.hooks.contract import Access, PostFinish, PreAccess, PreCreate, Upload
from tusd_py.hooks.wire import decode_event

pytestmark = pytest.mark.anyio

SOURCE = "https://uploads.example.com/files/"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def test_an_event_is_sent_as_a_cloudevent_and_answered_as_ever() -> None:
    started = datetime.now(UTC)
    async with (
        receiving(answer(b'{"RejectUpload":true}')) as receiver,
        hooked(receiver, cloudevents_source=SOURCE, secrets=(SECRET,)) as hook,
    ):
        assert (await hook.call(sample(PreCreate))).is_rejected
    (heard,) = receiver.heard
    assert heard.one("Content-Type") == "application/cloudevents+json"
    envelope = heard.json()
    data = envelope.pop("data")
    when = datetime.fromisoformat(envelope.pop("time"))
    assert started <= when <= datetime.now(UTC)
    assert envelope == {
        "specversion": "1.0",
        "id": "a:pre-create",
        "source": SOURCE,
        "type": "io.tus.upload.pre-create",
        "subject": "a",
        "datacontenttype": "application/json",
    }
    assert decode_event(json.dumps(data).encode()) == sample(PreCreate)
    assert heard.one("webhook-id") == "a:pre-create"


async def test_what_is_about_no_upload_has_no_subject_and_an_id_nevertheless() -> None:
    async with receiving(answer()) as receiver, hooked(receiver, cloudevents_source=SOURCE, secrets=(SECRET,)) as hook:
        await hook.call(PreAccess(Upload(), access=Access("list")))
        await hook.call(PostFinish(Upload("b")))
    one, two = receiver.heard
    assert "subject" not in one.json()
    assert two.json()["subject"] == "b"
    assert one.json()["id"] == one.one("webhook-id") != two.json()["id"]
