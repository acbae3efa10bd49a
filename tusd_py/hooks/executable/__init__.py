"""Executables as hooks, as tusd has them: the event is JSON on standard input, the answer is JSON on standard output.

`folder` finds them, `program` is the transport to one, `run` is one run of it from start to end, `words` are what it
says on standard error. What events and answers look like as JSON is left to `hooks.wire`.
"""

from tusd_py.hooks.executable.folder import find_in_folder as find_in_folder
from tusd_py.hooks.executable.program import Executable as Executable
