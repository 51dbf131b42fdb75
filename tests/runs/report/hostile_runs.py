"""Forty run directories whose names, configurations and results try to become markup or code."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from ebmtrain.runs.storage.rundir import RunDir

TEXTS = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "'><svg onload=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "{{ 7*7 }}{% for i in range(9) %}",
    "<!-- </style><style>*{display:none}",
    "javascript:window.pwned=1",
    "]]></pre></details><a href=javascript:window.pwned=1>",
    "&lt;b&gt;&#x3c;script&#x3e;",
    "__proto__ constructor \u202e\x1b[2J",
)
KINDS = ("name", "config", "result", "metric")


def write_hostile_runs(folder: Path, write_run) -> None:
    for kind in KINDS:
        for i, text in enumerate(TEXTS):
            name = text.replace("/", "∕").replace("\x1b", "") if kind == "name" else "run"
            path = write_run(folder / f"{i}_{kind}_{name}", seed=i, kl=(2.0, 0.5, 0.1 + i / 100))
            if kind == "config":
                config = yaml.safe_load((path / "config.yaml").read_text())
                config["optimizer"]["lr"] = config["model"][text] = text
                config["seed"] = config["dataset"]["density"] = text
                RunDir(path).write_config(config)
                choices = {"method": text, "dataset": text, "model": text}
                RunDir(path).write_json("run.json", {"command": [text] * 3, "choices": choices})
            if kind in ("result", "metric"):
                result = json.loads((path / "result.json").read_text())
                if kind == "metric":
                    result["metrics"][text] = 1.0
                else:
                    result |= {"warnings": [text, 3, None], "error": text, "status": "failed"}
                RunDir(path).write_json("result.json", result)
