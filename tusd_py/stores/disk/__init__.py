"""Uploads as files in one directory that tusd can read too; any number of processes may serve it.

<id>                       the bytes
<id>.info                  the record (`record`), whole from the first to the last moment that anybody knows of it:
                           made in place, replaced by renaming (failures F12)
.tusd-py/journals/*        which uploads are unfinished, so that looking for those never reads the others (`journal`)
.tusd-py/unfinished/<id>   the same of uploads whose id may come again (`marks`)
.tusd-py/waiting/<p>/<f>   a mark: the final upload f waits for its partial p
.tusd-py/tmp/<id>.*        records and final uploads on their way into place, records on their way out
"""

from tusd_py.stores.disk.store import DiskStore as DiskStore
