"""Jobs in Redis, for any number of processes on any number of machines.

`scripts` has the records and every change of them, `connection` a connection whose Redis is known to be the one it was,
`sender` the calls, many of them in one round trip, `news` what wakes those who wait, `failures` the words for what went
wrong; `queue` puts them together as a `core.jobs.Queue`. Time is that of Redis, so machines need not agree about it.
What is acknowledged is as durable as Redis: with `appendonly yes` and `appendfsync always`, on the disk.
"""

from tusd_py.jobs.redis.queue import RedisQueue as RedisQueue
