"""Uploads as objects in one bucket of S3, or of what speaks like it; any number of processes on any number of machines.

<prefix><key>              the finished upload: `<key>` is `<id>`, or what the key template makes of it
<prefix><id>.info          its state (`record`): a chain of writes, each under the condition that the one before is
                           still the newest (`chain`). While bytes come, it also holds the tail: those after the last
                           whole part
<prefix>.tusd-py/waiting/<partial>/<final>   a mark: the final upload waits for its partial

No multipart upload is begun before a whole part is there. What counts is what the state says: bytes, parts and objects
that no state names never were.
"""

from tusd_py.stores.s3.store import S3Store as S3Store
