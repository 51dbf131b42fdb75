"""`ebmtrain plot RUN`: draws the pictures of a run again, from its newest checkpoint."""

from __future__ import annotations

from ebmtrain.commands.words import check_options, run_and_options

USAGE = "ebmtrain plot RUN [checkpoint=best.pt] [--trust PACKAGE]"


def main(words: list[str]) -> int:
    path, options, trust = run_and_options(words, USAGE)
    check_options(options, ("checkpoint",))

    from ebmtrain.gallery import Gallery
    from ebmtrain.loading import load
    from ebmtrain.run import title
    from ebmtrain.rundir import RunDir

    run = load(path, checkpoint=options.get("checkpoint"), trust=trust)
    files = RunDir.open(path)
    samples = run.parts.standardization.to_standard(run.sample(run.parts.samples.count))
    name = f"{title(run.parts, files.read_json('run.json').get('choices', {}))}  step {run.step}"
    for notice in Gallery(run.parts, files).final(
        run.standard_energy, samples, name, run.parts.plots.gif
    ):
        print(notice)
    print(f"pictures: {path / 'plots'}")
    return 0
