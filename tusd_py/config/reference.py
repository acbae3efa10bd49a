"""The settings in print: for --help, for `tusd-py config`, and as the tables of docs/.

All of it is made from the metadata of `config.Config`, so that no second list of settings can go stale.
"""

from __future__ import annotations

import json
import re
import textwrap
from itertools import groupby

from tusd_py import __version__
from tusd_py.config.kinds import Setting, Switch
from tusd_py.config.settings import SETTINGS, Loaded

WIDEST = 100
NARROWEST = 40

INTRODUCTION = """\
tusd-py receives large files over bad networks: an upload that breaks goes on where it stopped, and a byte that was
acknowledged is not lost. It speaks tus 1.0 (https://tus.io), so every tus client works with it."""

USAGE = """\
usage: tusd-py [flags]             serve
       tusd-py config [flags]      print the settings
       tusd-py check ADDRESS       try out what is there
       tusd-py upload FILE... URL  send files
       tusd-py hooks new|run|list  write hooks, try them
       tusd-py jobs list|retry     what hooks are owed
       tusd-py worker [flags]      tell them, not serving"""

EXAMPLES = """\
  tusd-py                                     serve ./data at 127.0.0.1:8080
  tusd-py --host 0.0.0.0 --upload-dir /srv    take uploads from elsewhere
  TUSD_PY_MAX_SIZE=5GB tusd-py                settings work as variables, too,
  tusd-py --config tusd.toml                  and in a file: max-size = "5GB"
  tusd-py config                              print the settings, as such a file"""

FORMS = """\
Flags win over the environment (TUSD_PY_ and the name: TUSD_PY_UPLOAD_DIR), the environment over the file, the file over
the defaults. Flags may have one dash or two, and their value after a space or a =; those with true|false take it after
= only, and alone mean true. A SIZE is bytes, or 64KiB, 1.5GiB, 5GB. A TIME is seconds, or 500ms, 30s, 5m, 1h30m, 7d.
A LIST has commas. A MODE is octal."""


def help_text(columns: int) -> str:
    """What `tusd-py --help` prints, for a terminal that wide."""
    width = max(NARROWEST, min(columns, WIDEST))
    blocks = [USAGE, _fill(INTRODUCTION, width), "Examples:\n" + EXAMPLES, _fill(FORMS, width)]
    for group, settings in groupby(SETTINGS.values(), key=lambda each: each.group):
        blocks.append(f"{group}:\n" + "\n".join(_entry(_usage(each), each.help_text, width) for each in settings))
    others = {
        "--config PATH": "TOML file with settings. Else TUSD_PY_CONFIG names one; else there is none.",
        "--version": "Print the version and exit.",
        "--help": "Print this and exit.",
    }
    blocks.append("Others:\n" + "\n".join(_entry(head, text, width) for head, text in others.items()))
    return "\n\n".join(blocks) + "\n"


def _usage(setting: Setting) -> str:
    joint = "=" if isinstance(setting.kind, Switch) else " "
    return f"{setting.flag}{joint}{setting.kind.placeholder}  (default: {_default(setting)})"


def _entry(head: str, text: str, width: int) -> str:
    indent = " " * 6
    head = head if len(head) + 2 <= width else head.replace(",", ", ")  # a long list breaks behind a comma
    lines = textwrap.wrap(head, width, initial_indent="  ", subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join([*lines, textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)])


def _fill(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), width)


def _default(setting: Setting) -> str:
    return setting.kind.write(setting.default) or "none"


def config_file(loaded: Loaded) -> str:
    """What `tusd-py config` prints: name, value and source of each setting, as a TOML file that may be kept."""
    lines = {name: _line(each, getattr(loaded.config, name)) for name, each in SETTINGS.items()}
    column = min(48, max(len(line) for line in lines.values()))
    printed = [f"# tusd-py {__version__}: the settings in force and their sources. Kept as a file: --config FILE."]
    for group, settings in groupby(SETTINGS.values(), key=lambda each: each.group):
        printed += ["", f"# {group}"]
        printed += [f"{lines[each.name]:{column}}  # {loaded.sources[each.name]}" for each in settings]
    return "\n".join(printed) + "\n"


def _line(setting: Setting, value: object) -> str:
    if setting.is_secret and value != setting.default:
        return f"# {setting.key} is set, and not shown"
    return f"{setting.key} = {_toml(setting, value)}"


def _toml(setting: Setting, value: object) -> str:
    text = setting.kind.write(value)
    is_bare = isinstance(value, int | float) and (text in {"true", "false"} or text.isdigit())
    # A JSON string is a TOML string once control characters are out, and no setting may have any.
    return text if is_bare else json.dumps(text, ensure_ascii=False)


def settings_table() -> str:
    """Every setting as a Markdown table, for docs/."""
    lines = ["| flag | default | what it does |", "|---|---|---|"]
    for group, settings in groupby(SETTINGS.values(), key=lambda each: each.group):
        lines.append(f"| **{group}** | | |")
        lines += [_row(each, each.help_text) for each in settings]
    return "\n".join(lines) + "\n"


def differences_table() -> str:
    """The settings whose defaults are not tusd's, as a Markdown table."""
    lines = ["| flag | default here | tusd, and why ours is another |", "|---|---|---|"]
    lines += [_row(each, each.differs) for each in SETTINGS.values() if each.differs]
    return "\n".join(lines) + "\n"


def _row(setting: Setting, text: str) -> str:
    default = _default(setting).replace("|", "\\|")
    escaped = re.sub(r"([\\|<*])", r"\\\1", text)
    return f"| `{setting.flag}` | `{default}` | {escaped} |"
