"""Uploads as files in one directory that tusd can read too; any number of processes may serve it.

<id>                       the bytes
<id>.info                  the record (`record`), replaced by renaming, never written in place (failures F12)
.tusd-py/unfinished/<id>   a mark: this upload is not finished, so that looking for those never reads the others
.tusd-py/waiting/<p>/<f>   a mark: the final upload f waits for its partial p
.tusd-py/tmp/<id>.*        records and final uploads on their way into place
"""

from tusd_py.stores.disk.store import DiskStore as DiskStore
