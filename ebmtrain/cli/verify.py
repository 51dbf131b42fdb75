"""`ebmtrain verify [key=value ...]`: tests mathematical properties of the chosen model, sampler and
method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebmtrain.cli.compose import compose_arguments
from ebmtrain.config.presets import to_plain

if TYPE_CHECKING:
    from ebmtrain.evaluation.properties.result import PropertyResult


def main(arguments: list[str]) -> int:
    config = compose_arguments(arguments)

    from ebmtrain.config.build import build
    from ebmtrain.runs.evaluate import check_properties

    failed = 0
    for finding in check_properties(build(to_plain(config), set_up_process=True)):
        print(_format_finding(finding), flush=True)
        failed += finding.holds is False
    print("all properties hold" if not failed else f"{failed} broken")
    return 1 if failed else 0


def _format_finding(finding: PropertyResult) -> str:
    status = {True: "pass", False: "FAIL", None: "n/a "}[finding.holds]
    expected = f"  (expected {finding.expected})" if finding.expected else ""
    return f"{status}  {finding.name}: {finding.observed}{expected}"
