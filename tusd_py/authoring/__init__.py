"""The commands `tusd-py hooks new|run|list`, for those who write hooks and who install them: their words and help.

What each does stands in a module of its own. Hooks are found, set up and asked as by the server, but without one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from tusd_py.errors import ConfigError

NAME = "hooks"
COMMANDS = ("new", "run", "list")

SUMMARY = f"""\
  tusd-py {NAME} new|run|list
      Write a hook, try it on a file without a server, see what is there. More: tusd-py {NAME} --help"""

HELP = f"""\
usage: tusd-py {NAME} new NAME [--dir hooks]
       tusd-py {NAME} run HOOK --file FILE [--event EVENT] [--metadata KEY=VALUE] [--setting KEY=VALUE]
       tusd-py {NAME} list [--hooks-dir hooks]

A hook is a Python file that is asked before something happens to an upload, and told afterwards. In five minutes:

  tusd-py {NAME} new sorting                              writes hooks/sorting.py, which works, and its test
  pytest hooks/test_sorting.py                          the test needs no server
  tusd-py {NAME} run sorting --file notes.txt             what it says to this file, event by event
  tusd-py {NAME} list                                     what it listens to, and what can be set

new: writes a hook and its test, and nothing over what is there.
  --dir FOLDER          where (default: hooks)

run: asks HOOK what it says to a file, about each event that it listens to, in their order. HOOK is the name of an
installed one, the name of a file in ./hooks, package.module, package.module:attribute, or a path: ./hooks/sorting.py
It may also be a program, such as ./hooks/pre-create, or an address: http://127.0.0.1:8000/
  --file FILE           the bytes of the upload; of any size, for it is not loaded
  --event EVENT         only this event
  --metadata KEY=VALUE  what the client says, as in filename=a.csv; may be given several times. Without it: the name
                        and the type of the file
  --header TEXT         what the client's request has, as in 'Authorization: Bearer x'; may be given several times
  --setting KEY=VALUE   a setting of the hook, checked as by the server; may be given several times. In tables: a.b=1
  --json FILE           tell the event in this file, in tusd's JSON, instead of one that is made up

list: the hooks that are installed (entry points of the group tusd_py.hooks) and those in a folder: what they listen
to, and their settings.
  --hooks-dir FOLDER    the folder (default: hooks, if there is one)

Exit codes:
  0    all is well: the hook lets it happen
  1    the hook rejected it, stopped it or failed; of list: a hook cannot be loaded
  2    wrong words or settings, or no such hook: one line says what to do
"""

_INTERRUPTED = 130


def run(words: Sequence[str], tell: Callable[[str], object]) -> int:
    """`words` are those after `hooks`. Returns the exit code; raises ConfigError for code 2."""
    if not words or words[0] in ("-h", "--help", "-help"):
        tell(HELP)
        return 0
    command, *rest = words
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise ConfigError(f"unknown command {NAME} {command!r}; {hint} See tusd-py {NAME} --help")
    try:
        return _do(command, rest, tell)
    except KeyboardInterrupt:
        tell("\ninterrupted\n")
        return _INTERRUPTED


def _do(command: str, rest: Sequence[str], tell: Callable[[str], object]) -> int:
    # Imported here: a server, and who only wants help, load none of it.
    from tusd_py.authoring import creation, listing, trial, words  # noqa: PLC0415

    given = words.read(command, rest)
    if given.help:
        tell(HELP)
        return 0
    if command == "new":
        return creation.create(given.name, given.dir, tell)
    if command == "list":
        return listing.show(given.hooks_dir, tell)
    wishes = trial.Wishes(
        given.hook,
        given.file,
        given.event,
        dict(given.metadata),
        given.header,
        given.setting,
        given.json,
    )
    return trial.run(wishes, tell)
