"""The readable page of the API: its OpenAPI document as HTML, without a script or a request to anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from typing import Any

Schema = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d9dee5, #363c46); --soft: light-dark(#f5f7fa, #1d2127);
  --dim: light-dark(#566273, #9aa6b5); --accent: light-dark(#0b63c5, #6db3ff); }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 58rem; padding: 2rem 1.25rem 4rem;
  background: light-dark(#fff, #15181d); color: light-dark(#17202b, #e6ebf1); }
h1 { font-size: 1.7rem; margin-bottom: .25rem } h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem }
h3 { font-size: .95rem; margin: 1.25rem 0 .25rem }
code, pre { font: .875em/1.5 ui-monospace, monospace }
code { overflow-wrap: anywhere }
td:first-child code { white-space: nowrap }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: .5rem; overflow-x: auto;
  padding: .75rem 1rem }
.verb { color: var(--accent); font-weight: 600 } .dim { color: var(--dim) } a { color: var(--accent) }
.table { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { border-top: 1px solid var(--line); padding: .4rem .75rem .4rem 0; text-align: left; vertical-align: top }
th { font-size: .8rem; color: var(--dim); border: 0 }
"""

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
).encode()

_CODE = re.compile(r"`([^`]+)`")


def page(document: Schema, root_path: str) -> bytes:
    """`root_path` is where the application is mounted."""
    info = document["info"]
    parts = [
        f"<h1>{_text(info['title'])} <span class='dim'>{_text(info['version'])}</span></h1>",
        f"<p>{_text(info['description'])}</p>",
        f"<p><a href='{html.escape(root_path, quote=True)}{_document_path(document)}'>openapi.json</a></p>",
    ]
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            parts += _operation(document, verb, root_path + path, operation)
    for name, schema in document["components"]["schemas"].items():
        parts += [f"<h2 id='{name}'>{name}</h2>", f"<p>{_text(schema.get('description', ''))}</p>"]
        parts.append(_fields(schema["properties"]))
    title = _text(info["title"])
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"
    ).encode()


def _document_path(document: Schema) -> str:
    return next(html.escape(path, quote=True) for path in document["paths"] if path.endswith("openapi.json"))


def _operation(document: Schema, verb: str, path: str, operation: Schema) -> list[str]:
    parts = [
        f"<h2><span class='verb'>{verb.upper()}</span> <code>{_text(path)}</code></h2>",
        f"<p><strong>{_text(operation['summary'])}.</strong> {_text(operation.get('description', ''))}</p>",
        f"<pre>{_text(_example(path, operation))}</pre>",
    ]
    if parameters := operation.get("parameters"):
        rows = {each["name"]: each["schema"] | {"description": each["description"]} for each in parameters}
        parts += ["<h3>Parameters</h3>", _fields(rows)]
    rows_of_answers = "".join(
        f"<tr><td><code>{status}</code></td><td>{_text(_resolved(document, answer)['description'])}</td>"
        f"<td>{_link(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    parts += ["<h3>Answers</h3>", f"<div class='table'><table>{rows_of_answers}</table></div>"]
    return parts


def _example(path: str, operation: Schema) -> str:
    streams = "text/event-stream" in operation["responses"]["200"].get("content", {})
    query = "?id=ID" if streams else ""
    return f"curl {'-N ' if streams else ''}'http://HOST{path.replace('{id}', 'ID')}{query}'"


def _fields(fields: Schema) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code></td><td class='dim'>{_text(_type(schema))}</td>"
        f"<td>{_text(schema.get('description', ''))}</td></tr>"
        for name, schema in fields.items()
    )
    return f"<div class='table'><table><tr><th>name</th><th>type</th><th>meaning</th></tr>{rows}</table></div>"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "oneOf" in schema:
        return " | ".join(_type(each) for each in schema["oneOf"])
    kind = schema.get("type", "")
    text = " | ".join(kind) if isinstance(kind, list) else str(kind)
    if text == "array":
        text = f"list of {_type(schema['items'])}"
    bounds = {key: schema[key] for key in ("format", "minimum", "maximum", "maxItems", "default") if key in schema}
    return text + (f", {json.dumps(bounds)[1:-1]}".replace('"', "") if bounds else "")


def _link(answer: Schema) -> str:
    for content in answer.get("content", {}).values():
        if "$ref" in content["schema"]:
            name = content["schema"]["$ref"].rpartition("/")[2]
            return f"<a href='#{name}'>{name}</a>"
    return ""


def _resolved(document: Schema, answer: Schema) -> Schema:
    if "$ref" not in answer:
        return answer
    found: Schema = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return found


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text))
