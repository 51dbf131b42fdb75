"""`ebmtrain -h` and `ebmtrain VERB -h`. Hydra's own page composes the configuration, which takes
longer than the rest of the start."""

from __future__ import annotations

import importlib

from ebmtrain.cli.arguments import parse_overrides
from ebmtrain.config.presets import Presets

_FLAGS = ("-h", "--help")
_PAGE = """\
ebmtrain trains and evaluates energy-based models.

  ebmtrain                                   the default run
  ebmtrain method=pcd model=mlp              choose parts
  ebmtrain dataset=moons train.steps=2000    change values
  ebmtrain -m method=cd,pcd seed=0,1         all combinations, and a table
  ebmtrain experiment=pcd_25gaussians        a tuned combination
  ebmtrain dataset=file dataset.path=x.csv   your own points
  ebmtrain --config-dir DIR ...              your own presets, before the built-in ones

verbs (`ebmtrain VERB -h` for one)
  ebmtrain check [key=value ...]             compose, build, a few steps; writes nothing
  ebmtrain verify [key=value ...]            test properties of model, sampler, method
  ebmtrain list [GROUP[/OPTION]]             the options of each group, or of a preset
  ebmtrain init DIR [GROUP[/OPTION] ...]     copy presets, to edit them
  ebmtrain search key=VALUES ...             the best values of options, by Optuna
  ebmtrain resume RUN                        continue from the exact state
  ebmtrain resume SWEEP                      run what is missing, in any number of processes
  ebmtrain evaluate|plot RUN                 metrics and figures of a checkpoint
  ebmtrain sample RUN count=1000             points from the model
  ebmtrain sample RUN --inpaint MASK         missing values given known ones
  ebmtrain sample RUN --denoise FILE noise=S clean points given noisy ones
  ebmtrain report DIR --sort kl --open       leaderboard and page of a sweep, or of many runs
  ebmtrain export RUN tracker=tensorboard    metrics and figures of runs for a tracker
  ebmtrain score RUN --data FILE --out FILE  energies of the rows of a file
  ebmtrain completion bash|zsh|fish          a script that completes arguments on TAB

options of each group
{groups}

--cfg job prints the configuration, --debug shows where an error came from.
"""


def general_help(arguments: list[str]) -> str:
    """The general page, with the options of the user's folder; or the pages of the presets that the
    arguments choose: method=pcd."""
    arguments = [argument for argument in arguments if argument not in _FLAGS]
    words, folder = parse_overrides(arguments, others=True)
    known = Presets(user=folder)
    if chosen := [w.replace("=", "/", 1) for w in words if w.partition("=")[0] in known.groups()]:
        from ebmtrain.cli.list import preset_page

        return "\n".join(preset_page(known, name) for name in chosen) + "\n"
    lines = [f"{group}: {', '.join(known.options(group))}" for group in known.groups()]
    return _PAGE.format(groups="\n".join(lines))


def verb_help(verb: str) -> str:
    """The description and the usage of a verb."""
    command = importlib.import_module(f"ebmtrain.cli.{verb}")
    usage = getattr(command, "USAGE", "")
    text = (command.__doc__ or "").replace("`", "").strip()
    return f"{text}\n\nusage: {usage}\n" if usage else f"{text}\n"
