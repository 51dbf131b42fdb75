"""What is public, and plain words: CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOR_OTHERS = {  # for users' parts, benchmarks, and modules that are called by name
    "main", "fingerprint", "run_callbacks", "print_error",
}  # fmt: skip


def words(*patterns: str) -> dict[Path, Counter[str]]:
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return {path: Counter(re.findall(r"\w+", path.read_text(encoding="utf-8"))) for path in files}


def test_a_public_function_is_used_in_another_file():
    used = words("ebmtrain/**/*.py", "configs/**/*.yaml")
    everywhere = sum(used.values(), Counter())
    found = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in ROOT.glob("ebmtrain/**/*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.name not in FOR_OTHERS
        and everywhere[node.name] == used[path][node.name]
    ]
    assert not found


def test_the_text_is_plain():
    """No archaic or literary turns."""
    turns = re.compile(r"\b(anew|beneath|for ever|by heart|whatever it was)\b", re.I)
    patterns = (
        "*.md",
        "docs/**/*.md",
        "ebmtrain/**/*.py",
        "ebmtrain/**/*.cpp",
        "configs/**/*.yaml",
    )
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert len(files) > 300
    found = [f"{path.name}: {m[0]}" for path in files for m in turns.finditer(path.read_text())]
    assert found == []
