"""The verdict on a healthy client's latencies, and the table of attacks."""

from __future__ import annotations

import json
from pathlib import Path

from attackreport import FACTOR, FLOOR_SECONDS, Outcome, Pair, is_borne, lines, write

QUIET = 0.004
BORNE = Pair(QUIET, FACTOR * QUIET + FLOOR_SECONDS, 0.1)
SLOW = Pair(QUIET, FACTOR * QUIET + FLOOR_SECONDS + 0.001, 0.2)


def test_noise_is_outvoted_and_who_suffers_each_time_is_seen() -> None:
    assert is_borne([BORNE])
    assert is_borne([SLOW] * 7 + [BORNE])
    assert not is_borne([SLOW] * 8)
    # A quiet time that was none excuses only the attack that followed it.
    assert not is_borne([Pair(0.1, 0.3, 0.3), SLOW])


def test_the_table_as_text_json_and_markdown(tmp_path: Path) -> None:
    outcomes = [Outcome("one", [SLOW, BORNE, SLOW], 0.25, (70.0, 80.0, 75.0)), Outcome("two", [BORNE], 1.5, (1, 2, 3))]
    write(tmp_path / "new", outcomes)
    written = json.loads((tmp_path / "new" / "attacks.json").read_text())
    first, second = written["attacks"]
    assert first["name"] == "one"
    assert first["median"] == {"quiet_ms": 4.0, "attacked_ms": 15.0, "worst_ms": 200.0}
    assert [pair["attacked_ms"] for pair in first["pairs"]] == [15.0, 14.0, 15.0]
    assert first["pss_mib"] == {"before": 70.0, "peak": 80.0, "after": 75.0}
    assert second["processor"] == 1.5
    rows = (tmp_path / "new" / "attacks.md").read_text().splitlines()
    assert rows[-2] == "| one | 4.0 | 15.0 | 200 | 1/3 | 25% | 70.0 | 80.0 | 75.0 |"
    assert [len(row.split("|")) for row in rows[-4:]] == [11] * 4
    assert [line.split()[0] for line in lines(outcomes)] == ["attack", "one", "two"]
