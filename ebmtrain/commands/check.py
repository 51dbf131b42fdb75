"""`ebmtrain check [key=value ...]`: compose, validate, build, one step. Writes nothing."""

from __future__ import annotations

import time

from ebmtrain import presets
from ebmtrain.commands.words import overrides_in


def main(words: list[str]) -> int:
    overrides, folder = overrides_in(words)
    presets.prepare(folder)
    config = presets.composed(overrides, hydra=True)

    from ebmtrain.build import build
    from ebmtrain.compiled import chosen
    from ebmtrain.run import summary
    from ebmtrain.state import start
    from ebmtrain.train import check, update

    presets.check_targets(config)
    parts = build(presets.plain(config))
    for line in summary(parts, presets.chosen(config.hydra.runtime.choices)):
        print(line)
    if parts.job is not None and parts.job.n_steps > 0:
        state = start(parts.job, parts.energy, parts.generator("train"))
        advance = chosen(parts.compile, parts.job)
        for _ in range(2):  # they warm up caches and allocators, and compile
            update(parts.job, state, advance)
        began = time.perf_counter()
        update(parts.job, state, advance)
        seconds = time.perf_counter() - began
        check(parts.job, state)
        print(
            f"one step {1e3 * seconds:.1f} ms, training about {seconds * parts.job.n_steps:.0f} s"
        )
    print("ok")
    return 0
