"""Locks for any number of processes on one machine that share a directory, without a service beside them.

`ranges` keeps others out, `peers` asks them to let go and hears when they did, `turns` keeps order at home; this module
puts them together. A process that dies, however it dies, holds nothing (failures F23). On the disk there is one empty
lock file, and a socket for each process.
"""

from tusd_py.lockers.file.locker import FileLocker as FileLocker
