"""Pages of the manual that are generated from presets and docstrings, as a hook of MkDocs: one for
each method, one with all options, one of the Python interface."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Iterator
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import ebmtrain
from ebmtrain.config.preset_files import BUILT_IN, groups, header, options, read_options


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    assert config.nav is not None
    methods = [{name: f"methods/{name}.md"} for name in options([BUILT_IN], "method")]
    decisions = sorted(f"adr/{path.name}" for path in (BUILT_IN.parent / "docs/adr").glob("*.md"))
    config.nav += [
        {"Methods": methods},
        {"Reference": [{"All options": "options.md"}, {"Python": "python.md"}]},
        {"Decisions": decisions},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> dict[str, str]:
    """File name and Markdown of each page."""
    found = {
        f"methods/{name}.md": "\n".join(_method(name)) for name in options([BUILT_IN], "method")
    }
    return {**found, "options.md": "\n".join(_options()), "python.md": "\n".join(_python())}


def _method(name: str) -> Iterator[str]:
    path = options([BUILT_IN], "method")[name]
    part: Any = pydoc.locate(yaml.safe_load(path.read_text())["_target_"])
    module = inspect.getmodule(part)
    title, *more = header(path)
    yield f"# {name}\n\n{_text(title)}.\n"
    yield from _block("", [line.strip() for line in more if line.strip().startswith("ebmtrain")])
    yield from (_text(line) for line in more if not line.strip().startswith("ebmtrain"))
    yield "\n[Which method should I choose?](../choose.md)\n\n## Formula and source\n"
    yield from _block("text", [inspect.getdoc(module) or "", "", inspect.getdoc(part) or ""])
    yield f"\n## Options of `method={name}`\n"
    yield from _table("method", path)


def _options() -> Iterator[str]:
    yield "# All options\n\nA table for each preset, with its defaults: see also `ebmtrain list`.\n"
    config = options([BUILT_IN], "")["config"]
    yield "## Sections of every run\n"
    yield from _table("", config)
    for group in groups([BUILT_IN]):
        yield f"\n## {group}\n"
        for name, path in options([BUILT_IN], group).items():
            title = next(iter(header(path)), "")
            yield f"\n### `{group}={name}`\n\n{_text(title)}\n"
            yield from _table("" if group == "experiment" else group, path)


def _python() -> Iterator[str]:
    yield "# Python\n\nWhat `import ebmtrain` offers.\n"
    methods = [(f"Run.{k}", v) for k, v in vars(ebmtrain.Run).items() if k[0] != "_"]
    shown = [("train", ebmtrain.train), ("load", ebmtrain.load), ("Run", ebmtrain.Run), *methods]
    for name, part in shown:
        target = part.fget if isinstance(part, property) else part
        if callable(target) and inspect.getdoc(target):
            called = "" if isinstance(part, property) else str(inspect.signature(target))
            yield f"\n## `{name}`\n"
            yield from _block("python", [f"{name}{called}"] if called else [name])
            yield from _block("text", [inspect.getdoc(target) or ""])


def _table(prefix: str, path: Any) -> Iterator[str]:
    rows = [o for o in read_options(path) if o.value]
    if not rows:
        yield "It has no options.\n"
        return
    yield "| option | default | |\n|---|---|---|"
    for option in rows:
        key = f"{prefix}.{option.key}" if prefix else option.key
        value = option.value.replace("|", "\\|")
        yield f"| `{key}` | `{value}` | {_text(option.comment)} |"
    yield ""


def _block(language: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield "\n".join([f"```{language}", *lines, "```", ""])


def _text(line: str) -> str:
    """A comment as Markdown, without meaning of its special characters."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in line)
