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
       tusd-py {JOBS} retry KEY...|dead [flags]   try these now, or all that are dead; tries are counted from the start
       tusd-py {JOBS} drop KEY...|dead [flags]    never tell it

A job is one event for one hook. Its key is <upload id>:<event>:<hook>, as list shows it. A hook that fails is tried
again, ever more rarely, for about three days; then the job is dead, until you retry or drop it.

The queue is that of the settings: give the flags of the server, or the same --config. --log-format json prints one JSON
object a line. Without states, list shows those that are waiting, running and dead.

Examples:
  tusd-py {JOBS} list dead --config tusd.toml
  tusd-py {JOBS} retry dead --upload-dir /srv/uploads
"""

WORKER_HELP = f"""\
usage: tusd-py {WORKER} [flags]

Tells hooks what they are owed (post-create, post-finish, post-terminate), until it is stopped by SIGTERM or Ctrl-C.
What it was doing then is done again by another one, after a kill -9 about half a minute later. Any number may run,
beside servers and instead of their own (--run-jobs=false). Give it the flags of the server, or the same --config.
"""

HELP = {JOBS: JOBS_HELP, WORKER: WORKER_HELP}
