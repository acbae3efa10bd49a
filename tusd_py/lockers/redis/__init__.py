"""Locks for any number of processes on any number of machines that share one Redis.

`lease` keeps others out for as long as it is renewed, `requests` asks holders to let go and hears when they did,
`turns` keeps order at home, `connection` talks to Redis, and `address` finds it in any of its forms. A process that
dies holds nothing after the lease (failures F23); one that comes back too late is told, and its fence is too small
(failures F22).
"""

from tusd_py.lockers.redis.locker import RedisLocker as RedisLocker
