"""What `tusd-py jobs` and `tusd-py worker` are called, and their help."""

from __future__ import annotations

JOBS = "jobs"
WORKER = "worker"

SUMMARY = f"""\
  tusd-py {JOBS} list|show|retry|drop
      What hooks are still to hear of, and what they failed to take. More: tusd-py {JOBS} --help
  tusd-py {WORKER}
      Tell hooks what they are owed, in a process of its own, beside a server with --run-jobs=false."""

JOBS_HELP = f"""\
usage: tusd-py {JOBS} [list] [STATE...] [flags]   those in these states: waiting, running, dead, done, cancelled
       tusd-py {JOBS} show KEY [flags]            one, with all that is known of it
       tusd-py {JOBS} retry KEY...|dead [flags]   try them now, or all that were given up, with all tries before them
       tusd-py {JOBS} drop KEY...|dead [flags]    never tell it

A job is one event for one hook. Its key is <upload id>:<event>:<hook>. A hook that fails is tried again, for more than
a day in all, ever more rarely; then the job is dead, until you retry or drop it.

The queue is that of the settings: give the flags of the server, or the same --config. --log-format json prints one JSON
object a line. Without states, list shows those that are waiting, running and dead.

Examples:
  tusd-py {JOBS} list dead --config tusd.toml
  tusd-py {JOBS} retry dead --upload-dir /srv/uploads
"""

WORKER_HELP = f"""\
usage: tusd-py {WORKER} [flags]

Tells hooks what they are owed (post-create, post-finish, post-terminate), until it is stopped by SIGTERM or Ctrl-C.
What it was doing then is done again by another one. Any number may run, beside servers and instead of their own
(--run-jobs=false). Give it the flags of the server, or the same --config.
"""

HELP = {JOBS: JOBS_HELP, WORKER: WORKER_HELP}
