"""What users of other tools type, and what it is called here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError

_FOLDER = "dataset.path=FOLDER"
_NOTHING = "none null false off no"


def _by_word(answers: Mapping[str, str]) -> dict[str, str]:
    return {word: answer for answer, words in answers.items() for word in words.split()}


_OPTIONS = {
    group: _by_word(answers)
    for group, answers in {
        "device": {
            "device=cuda": "gpu nvidia 0 1 cuda:0 cuda:1",
            "device=mps": "apple metal",
        },
        "dataset": {
            f"dataset=idx {_FOLDER}": "mnist fashion_mnist fashionmnist fmnist kmnist emnist",
            f"dataset=cifar10 {_FOLDER}": "cifar cifar_10",
            f"dataset=image_folder {_FOLDER}": "images imagefolder folder pictures",
            "dataset=file dataset.path=FILE": "csv npy npz table custom numpy",
            "dataset=moons": "two_moons half_moons",
            "dataset=2spirals": "spirals two_spirals",
            "dataset=8gaussians": "gaussians mog gmm",
        },
        "model": {
            "model=conv": "cnn convnet",
            "model=resnet": "wideresnet unet",
            "model=mlp": "perceptron dense fc",
            "model=lstm": "rnn gru",
            "model=conv1d": "tcn wavenet",
            "model=transformer": "attention",
            "model=mixtures": "gmm mog",
        },
        "sampler": {
            "sampler=langevin": "sgld ula ld",
            "sampler=hmc": "nuts hamiltonian",
            "sampler=underdamped": "baoab kinetic",
            "sampler=tempering": "parallel_tempering replica_exchange",
            "evaluation=ais": "ais",
        },
        "method": {
            "method=pcd": "persistent_cd ml mle maximum_likelihood",
            "method=cd method.k=1": "cd1 cd_1",
            "method=sm": "score_matching hyvarinen",
            "method=ssm": "sliced_score_matching",
            "method=dsm": "denoising denoising_score_matching",
            "method=ksd": "stein",
            "method=nce": "noise_contrastive_estimation",
            "method=ed": "energy_discrepancy",
            "method=cd method.start=noise": "short_run",
        },
        "plots": {"plots.every=0": f"{_NOTHING} 0"},
        "quality": {"quality.every=0": f"{_NOTHING} 0"},
        "diagnostics": {"diagnostics.every=0": f"{_NOTHING} 0"},
        "evaluation": {"evaluation.every=0": f"{_NOTHING} 0"},
    }.items()
}
"""Group, or key, and its option -> what to give."""

_KEYS = _by_word(
    {
        "optimizer.lr={}": "lr learning_rate train.learning_rate optimizer.learning_rate",
        "train.steps={}": "steps n_steps iterations iters max_steps num_steps updates",
        "train.epochs={}": "epochs n_epochs num_epochs max_epochs",
        "train.batch_size={}": "batch_size batch bs batchsize",
        "train.ensemble={}": "seeds ensemble",
        "train.ema={}": "ema",
        "seed={}": "random_seed",
        "optimizer.clip_norm={}": "clip_norm clip grad_clip",
        "optimizer=adamw optimizer.weight_decay={}": "weight_decay",
        "ebmtrain resume {}": "resume continue resume_from",
        "model.init={}": "init pretrained load_from weights ckpt checkpoint_path",
        "device=cuda": "gpu gpus cuda device.gpu device.cuda device.device",
        "device=cpu": "cpu no_cuda",
        "device.threads={}": "threads num_threads",
        "device.dtype={}": "dtype precision",
        "dataset=file dataset.path={}": "data file path input csv data_path",
        "hydra.run.dir={}": "o out output output_dir outdir out_dir run_dir save_dir logdir",
        "hydra.run.dir=outputs/{}": "name run_name",
        "plots.every=0": "no_plots no_plot no_pictures",
        "plots.gif=false": "no_gif",
        "sampler.step_size={}": "step_size",
        "sampler.temperature={}": "temperature",
        "method.k={}": "k mcmc_steps langevin_steps",
        "method.slots={}": "buffer_size",
        "model.width={}": "width hidden hidden_dim hidden_size model.hidden model.hidden_dim",
        "model.depth={}": "depth layers num_layers n_layers model.layers model.num_layers",
        "ebmtrain check": "dry_run",
        "ebmtrain evaluate {}": "eval evaluate test",
        "ebmtrain list": "list",
        "ebmtrain resume RUN": "latest last auto_resume",
        "--debug, for the traceback of an error": "v verbose",
        "--version": "V",
        "-m key=a,b": "sweep grid",
    }
)
"""Key, or flag without its dashes -> what to give; {} is the value."""

_VERBS = _by_word(
    {
        "ebmtrain evaluate RUN": "eval test",
        "ebmtrain -h": "help",
        "ebmtrain --version": "version",
        "ebmtrain key=value ...": "start",
        "ebmtrain resume RUN": "continue restart",
        "ebmtrain sample RUN": "generate draw",
        "ebmtrain score RUN --data FILE --out FILE": "predict",
        "ebmtrain -m key=a,b": "sweep",
        "ebmtrain search key=a,b search.trials=20": "tune optimize optimise optuna hpo",
        "ebmtrain list": "show options presets",
        "ebmtrain report DIR": "compare leaderboard",
        "ebmtrain init DIR": "new create copy",
    }
)


def verb_habit(verb: str) -> str | None:
    """What to type in place of a verb that does not exist; None if it is not known either."""
    return _VERBS.get(verb.lower())


def key_habit(word: str, following: str = "") -> str | None:
    """What to type in place of `key=value`, `--key=value`, or `--key` with the following word."""
    key, _, value = word.lstrip("-+").partition("=")
    following = "" if "=" in following or following.startswith("-") else following
    answer = _KEYS.get(key.lower().replace("-", "_"))
    return None if answer is None else answer.format(value or following or "...")


def word_habit(word: str, known: Presets) -> str | None:
    """What to type in place of a word that is no key=value: an option of a group, a file, or what
    other tools call it."""
    if Path(word).is_dir():
        run = (Path(word) / "config.yaml").exists()
        return f"ebmtrain resume {word}" if run else f"dataset=image_folder dataset.path={word}"
    if Path(word).suffix or Path(word).is_file():
        return f"dataset=file dataset.path={word}"
    lowered = word.lower().replace("-", "_")
    named = [f"{group}={word}" for group in known.groups() if word in known.options(group)]
    named += [answers[lowered] for answers in _OPTIONS.values() if lowered in answers]
    if not named and (answer := key_habit(word)) is not None:
        named.append(answer)
    return " or ".join(named) or None


def refuse_habits(arguments: Sequence[str], known: Presets) -> None:
    """Raises ConfigError for an argument of other tools, with what to type."""
    for argument, following in itertools.pairwise([*arguments, ""]):
        key, _, value = argument.lstrip("-+").partition("=")
        if value in known.options(key):  # a preset of the user's
            continue
        answer = _OPTIONS.get(key, {}).get(value.lower().replace("-", "_"))
        # A part of the user's may have any key in its own section.
        if answer is None and "." not in key and ("=" in argument or argument.startswith("-")):
            answer = key_habit(argument, following)
        if answer is not None:
            raise ConfigError(f"{argument} is unknown: give {answer}")
