"""Jobs in a SQLite file, for any number of processes on one machine. The file must be on a local disk.

`database` owns the file, `writer` the thread that touches it and the transactions, `statements` the SQL, `queue` puts
them together as a `core.jobs.Queue`. What is acknowledged is on the disk. Leases are kept by the machine's wall clock.
"""

from tusd_py.jobs.sqlite.queue import SqliteQueue as SqliteQueue
