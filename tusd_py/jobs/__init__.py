"""Work that is owed to hooks: queues that keep it, and the worker that does it.

Each queue implements `core.jobs.Queue`. What a job says to whom is left to `hooks`, finding what is owed after a queue
was lost to the stores.
"""
