"""Parses the arguments of a command line, and explains those that cannot be used."""

from __future__ import annotations

import copy
import errno
import importlib
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ebmtrain.config.presets import Presets, compose_config, extend_import_path, to_plain
from ebmtrain.errors import (
    ConfigError,
    first_line,
    nearest,
    out_of_memory,
    own_code_location,
    suggestion,
)

_MAX_JOBS_TO_EXPLAIN = 64  # of a sweep, each composed to find an override that does not fit


def split_flags(
    arguments: list[str], flags: tuple[str, ...] = (), *, others: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Plain arguments and the flags among them: `--trust NAME` or `--trust=NAME`.

    Args:
        others: treat other flags, such as those of Hydra, as plain arguments.

    Raises:
        ConfigError: an unknown flag, or one without its value.
    """
    plain: list[str] = []
    given: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, _, value = argument.partition("=")
        if name not in flags:
            if name.startswith("-") and not others:
                raise ConfigError(_unknown_flag_message(argument, next(rest, ""), flags))
            plain.append(argument)
            continue
        value = value or next(rest, "")
        if not value:
            raise ConfigError(f"{name} needs a value")
        given[name] = f"{given[name]},{value}" if name in given else value
    return plain, given


def _unknown_flag_message(argument: str, following: str, flags: tuple[str, ...]) -> str:
    name = argument.partition("=")[0]
    from ebmtrain.cli.habits import key_habit

    if answer := key_habit(argument, following):
        return f"unknown flag {name}: give {answer}"
    near = nearest(name, flags)
    flagged = f"; flags: {', '.join(flags)}" if flags else ""
    return f"unknown flag {name}{near or f'; options are given as key=value{flagged}'}"


def parse_overrides(arguments: list[str], *, others: bool = False) -> tuple[list[str], Path | None]:
    """The arguments of a configuration, and the folder of --config-dir, absolute.

    Raises:
        ConfigError: another flag, unless `others`; the folder does not exist.
    """
    plain, given = split_flags(arguments, ("--config-dir", "-cd"), others=others)
    # Hydra's users type +experiment=x where the default is null; here it needs no plus.
    plain = [w[1:] if w.startswith("+experiment=") else w for w in plain]
    # No preset has it: it belongs to every model.
    plain = [f"++{w}" if w.startswith("model.init=") else w for w in plain]
    if not given:
        return plain, None
    folder = Path(next(iter(given.values()))).resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {folder} is not a directory")
    return plain, folder


def parse_run_and_options(
    arguments: list[str], usage: str
) -> tuple[Path, dict[str, Any], tuple[str, ...]]:
    """`RUN key=value ... --trust PACKAGE` -> path, values as YAML reads them, packages.

    Raises:
        ConfigError: no run, more than one, or an argument that is no key=value.
    """
    plain, flags = split_flags(arguments, ("--trust",))
    runs = [argument for argument in plain if "=" not in argument or Path(argument).is_dir()]
    if len(runs) != 1:
        raise ConfigError(f"expected one run directory, got {len(runs)}; usage: {usage}")
    if not Path(runs[0]).is_dir():
        raise ConfigError(f"{runs[0]} is not a directory; usage: {usage}")
    options = {}
    for argument in plain:
        if argument != runs[0]:
            key, _, text = argument.partition("=")
            options[key] = _parse_value(key, text)
    trusted = tuple(name for name in flags.get("--trust", "").split(",") if name)
    if trusted:
        extend_import_path()  # a trusted module may be in the working directory
    return Path(runs[0]), options, trusted


def _quoting_hint(argument: str) -> str | None:
    """How to quote an argument whose value holds characters of Hydra's grammar, such as the folder
    of a job, 0_seed=0, or a repeated download, table(1).csv; None if it can be read as it is, or if
    quotes do not help."""
    key, _, value = argument.partition("=")
    if not key or _read(argument) is not _UNREADABLE:
        return None
    listed = re.fullmatch(r"\[(.*)\]", value)
    items = [item.strip() for item in listed[1].split(",")] if listed else []
    spellings: list[tuple[str, Any]] = [(_quote(value), value)]
    if listed:  # a list of names, rather than a name in brackets
        spellings.insert(0, (f"[{','.join(map(_quote, items))}]", items))
    for written, wanted in spellings:
        if _read(f"{key}={written}") == wanted:
            quoted = shlex.quote(f"{key}={written}")
            return f"quote the value, and the whole argument for the shell: {quoted}"
    return None


def _read(argument: str) -> Any:
    """The value of an argument by Hydra's grammar."""
    try:
        return OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return _UNREADABLE


_UNREADABLE = object()


def _quote(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'


def _parse_value(key: str, text: str) -> Any:
    try:
        # As Hydra reads it: 1e-3 is a number there and a string in YAML 1.1.
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}={text} cannot be read: {first_line(error)}") from error
    assert isinstance(value, dict)
    return value["value"]


def check_options(options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises ConfigError for the first option that is not `known`; `device.*` stands for `device`
    and `device.threads`."""
    for name in options:
        if name not in known and f"{name.split('.')[0]}.*" not in known:
            raise ConfigError(f"unknown option {name}{suggestion(name, known)}")


def apply_options(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with other options of groups and then with other values of dotted keys.

    Raises:
        ConfigError: an unknown key, or an unknown option of a group.
    """
    new: dict[str, Any] = copy.deepcopy(dict(config))
    presets = Presets()
    chosen = {k: v for k, v in options.items() if k in new and k in presets.groups()}
    for group, name in chosen.items():
        if name not in presets.options(group):
            near = suggestion(str(name), presets.options(group))
            raise ConfigError(f"unknown option {group}={name}{near}")
        new[group] = to_plain(compose_config([f"{group}={name}", f"seed={config['seed']}"]))[group]
    known = [*dotted_keys(new), *_keys_of_sections()]
    for key, value in options.items():
        if key in chosen:
            continue
        if key not in known:
            raise ConfigError(f"unknown key {key}{suggestion(key, known)}")
        if key == "dataset.path" and isinstance(value, str) and Path(value).expanduser().exists():
            value = str(Path(value).expanduser().absolute())  # the run may be opened elsewhere
        *parents, last = key.split(".")
        node = new
        for parent in parents:
            node = node[parent]
        node[last] = value
    return new


def _keys_of_sections() -> Iterator[str]:
    """Dotted keys of the sections without a class: a run of an earlier version has fewer."""
    config = to_plain(compose_config())
    return dotted_keys(
        {k: v for k, v in config.items() if isinstance(v, dict) and "_target_" not in v}
    )


def warn(note: str) -> None:
    print(f"warning: {note}")


def dotted_keys(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a nested mapping, branches included."""
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from dotted_keys(value, f"{prefix}{key}.")


def explain_error(error: Exception, arguments: list[str]) -> tuple[list[str], int]:
    """Lines about an error that is not ebmtrain's own, and the exit code."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    known = _presets_of(arguments)
    if isinstance(error, OverrideParseException):
        return [f"{error.override} cannot be read: {_parse_remedy(error.override, text)}"], 2
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return [_unknown_option_message(error.missing_cfg_file, text, known)], 2
    if isinstance(error, UnicodeDecodeError):
        names = ", ".join(map(str, known.undecodable_files())) or "a YAML file"
        return [f"{names} cannot be read: it is not UTF-8 ({text})"], 2
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        opened = error.filename or "a file"
        return [f"cannot open {opened}: {error.strerror}; raise the limit, say ulimit -n 1024"], 6
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        remedy = "; was it moved or removed meanwhile?" if error.errno == errno.ENOENT else ""
        return [f"cannot use {error.filename}: {error.strerror}{remedy}"], 6
    if out_of_memory(error):
        return ["out of memory: ask for fewer points, chains or cells of the grid"], 2
    if isinstance(error, yaml.YAMLError):
        return [f"a YAML file cannot be read: {text}"], 2
    if problems := _override_problems(error, arguments, known):
        return problems, 2
    if isinstance(error, HydraException | OmegaConfBaseException):
        return [text], 2
    where = own_code_location(error)
    remedy = "traceback: add --debug" if where else "where: add --debug"
    return [f"unexpected {type(error).__name__}: {text}{where} ({remedy})"], 1


def _parse_remedy(argument: str, text: str) -> str:
    """What to change in an argument that Hydra's parser refuses, for a reason `text`."""
    if argument.endswith(","):
        return "remove the comma at its end, or add values after it and -m to run them all"
    if "=" not in argument:
        from ebmtrain.cli.habits import word_habit

        answer = word_habit(argument, Presets())
        verbs = "a verb comes first: ebmtrain -h"
        return (
            f"it is no key=value: give {answer}" if answer else f"it is no key=value, and {verbs}"
        )
    return _quoting_hint(argument) or text.partition(" See https://hydra.cc")[0]


def _presets_of(arguments: list[str]) -> Presets:
    try:
        return Presets(user=parse_overrides(arguments, others=True)[1])
    except ConfigError:
        return Presets()


def _override_problems(error: Exception, arguments: list[str], known: Presets) -> list[str]:
    """Messages about overrides that Hydra could not compose, and about the values of the others.
    Hydra's exceptions carry no attributes for these cases."""
    if not isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        return []
    texts = [a for a in arguments if "=" in a and not a.startswith(("-", "search."))]
    try:
        overrides = OverridesParser.create().parse_overrides(texts)
    except HydraException:
        return []
    groups = known.groups()
    lists = [o for o in overrides if o.is_sweep_override()]
    if lists and not {"-m", "--multirun", "search"} & set(arguments):
        several = f"{lists[0].input_line} has several values: add -m to run them all, or write a"
        key, _, value = str(lists[0].input_line).partition("=")
        one = shlex.quote(f"{key}={_quote(value)}")
        return [f"{several} list as [a,b], or a single value with commas as {one}"]
    chosen = [o for o in overrides if o.key_or_group in groups and o not in lists]
    if not all(isinstance(o.value(), str | list) for o in chosen):
        return ["a group cannot be null or a number: give the name of an option"]
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return []
    replaced = [o for o in overrides if not (o.is_add() or o.is_force_add() or o.is_delete())]
    chosen = [str(o.input_line) for o in replaced if o in chosen]
    swept = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        for o in lists
        if o.key_or_group in groups
    ]
    for job in itertools.islice(itertools.product(*swept), _MAX_JOBS_TO_EXPLAIN):
        try:
            composed = known.compose([*chosen, *job])
        except (HydraException, OmegaConfBaseException, yaml.YAMLError):
            return []
        content = OmegaConf.to_container(composed)  # not resolved: an interpolation may be wrong
        assert isinstance(content, dict)
        del content["hydra"]
        keys = [*dotted_keys(content), *groups]
        unknown = [o.key_or_group for o in replaced if o.key_or_group not in keys]
        unknown = [key for key in unknown if not key.startswith(("hydra.", "hydra/"))]
        if unknown:
            others = [str(o.input_line) for o in overrides if o.key_or_group not in unknown]
            problems = [_unknown_key_message(key, keys, known) for key in dict.fromkeys(unknown)]
            return problems + ([] if lists else _value_problems(others, known))
    return []


def _value_problems(overrides: list[str], known: Presets) -> list[str]:
    """Problems of the values of a configuration that can be composed."""
    validation = importlib.import_module("ebmtrain.config.validate")  # torch, for an error only
    try:
        validation.validate(to_plain(known.compose(overrides)))
    except ConfigError as error:
        return str(error).splitlines()
    except Exception:  # reported once the arguments that are refused now are corrected
        return []
    return []


def _unknown_key_message(key: str, keys: list[str], known: Presets) -> str:
    """A message about a key that the chosen presets do not have."""
    from ebmtrain.cli.habits import key_habit

    if answer := key_habit(key):
        return f"unknown key {key}: give {answer}"
    group, _, rest = key.partition(".")
    owners = [n for n, path in known.options(group).items() if rest in _keys_of(path)]
    if rest and owners:
        have = "has" if len(owners) == 1 else "have"
        adding = " or ".join(f"{group}={n}" for n in owners)
        return f"unknown key {key}: add {adding}, which {have} it"
    return f"unknown key {key}{suggestion(key, keys)}"


def _keys_of(preset: Path) -> set[str]:
    """Dotted keys of a preset; none if it cannot be read."""
    try:
        content = yaml.safe_load(preset.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return set()
    return set(dotted_keys(content)) if isinstance(content, dict) else set()


def find_key(name: str) -> str | None:
    """The shortest dotted key that ends in this name: train.steps for steps."""
    known = dotted_keys(to_plain(compose_config()))
    return min((key for key in known if key.rpartition(".")[2] == name), key=len, default=None)


def _unknown_option_message(name: str, text: str, known: Presets) -> str:
    """A message about `group/option`, which is no preset."""
    group = next((g for g in known.groups() if name.startswith(f"{g}/")), "")
    option = name.removeprefix(f"{group}/")
    options = list(known.options(group)) if group else []
    if not options:
        return text
    if group == "dataset" and (Path(option).suffix or "/" in option):
        return f"unknown option {group}={option}; did you mean dataset=file dataset.path={option}?"
    return f"unknown option {group}={option}{suggestion(option, options)}"
