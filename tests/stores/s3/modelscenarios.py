"""What A and B do with one upload at once; see `modelscene.Scenario`."""

from __future__ import annotations

from modelscene import Scenario, create, declare_length, finish, patch, patch_in_vain, terminate

SCENARIOS = {
    # Tails only.
    "little-at-one-offset": Scenario(
        20, (("A", create(20)),), {"A": (patch(0, 3),), "B": (patch(0, 5),)},
    ),
    "parts-at-one-offset": Scenario(
        28, (("A", create(28)),), {"A": (patch(0, 20),), "B": (patch(0, 17),)},
    ),
    # A goes on with what it has in memory; B must leave out the numbers that A may use.
    "parts-upon-parts": Scenario(
        32, (("A", create(32)), ("A", patch(0, 12))), {"A": (patch(12, 14),), "B": (patch(12, 9),)},
    ),
    # A finishes while B appends.
    "the-last-bytes": Scenario(
        20, (("A", create(20)), ("A", patch(0, 12))), {"A": (patch(12, 8),), "B": (patch(12, 5),)},
    ),
    # One puts the whole object without a state before it.
    "all-at-once": Scenario(
        6, (("A", create(6)),), {"A": (patch(0, 6),), "B": (patch(0, 4),)},
    ),
    # The same, while the other one makes parts of as many bytes.
    "all-at-once-and-a-part": Scenario(
        8, (("A", create(8)),), {"A": (patch(0, 8),), "B": (patch(0, 7), patch(7, 1))},
    ),
    # C goes on, and what A had sent arrives late.
    "a-crash-in-the-middle": Scenario(
        40, (("A", create(40)), ("A", patch(0, 12))), {"A": (patch(12, 25),)},
    ),
    # Of a body that ends with a part where A's numbers do.
    "a-crash-with-a-third-part": Scenario(
        40, (("A", create(40)), ("A", patch(0, 12))), {"A": (patch(12, 18),)},
    ),
    "a-crash-with-the-last-part": Scenario(
        30, (("A", create(30)), ("A", patch(0, 12))), {"A": (patch(12, 18),)},
    ),
    # Parts that never count leave their numbers behind.
    "bytes-in-vain": Scenario(
        30, (("A", create(30)), ("A", patch(0, 12))), {"A": (patch_in_vain(12, 18), patch(12, 9))},
    ),
    "a-crash-of-who-took-over": Scenario(
        36, (("A", create(36)), ("A", patch(0, 12))), {"B": (patch(12, 12),)},
    ),
    # The smallest one in which three follow each other at the end.
    "the-last-bytes-and-a-crash": Scenario(
        12, (("A", create(12)), ("A", patch(0, 9))), {"A": (patch(9, 3),), "B": (patch(9, 2),)},
    ),
    "little-ended-and-terminated": Scenario(
        6, (("A", create(6)), ("A", patch(0, 3))), {"A": (patch(3, 3),), "B": (terminate,)},
    ),
    "parts-ended-and-terminated": Scenario(
        20, (("A", create(20)),), {"A": (patch(0, 20),), "B": (terminate,)},
    ),
    # All bytes are there, and nobody has finished.
    "finished-twice": Scenario(
        12,
        (("A", create(None)), ("A", patch(0, 12)), ("A", declare_length(12))),
        {"A": (finish,), "B": (finish,)},
    ),
    "the-length-comes": Scenario(
        14, (("A", create(None)), ("A", patch(0, 7))), {"A": (declare_length(14), patch(7, 7)), "B": (patch(7, 5),)},
    ),
}  # fmt: skip
