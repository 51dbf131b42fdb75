"""`ebmtrain completion bash|zsh|fish`: prints a script that completes arguments in this shell.

    eval "$(ebmtrain completion bash)"                                           # in ~/.bashrc
    eval "$(ebmtrain completion zsh)"                                            # in ~/.zshrc
    ebmtrain completion fish > ~/.config/fish/completions/ebmtrain.fish          # once

The script asks `ebmtrain completion -- LINE` for the words that can follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ebmtrain.config.preset_files import BUILT_IN, groups, options, read_choices, read_options
from ebmtrain.errors import ConfigError, suggestion

USAGE = "ebmtrain completion bash|zsh|fish"

_SCRIPTS = {
    # Bash replaces the part of a word after the last character of COMP_WORDBREAKS, such as "=".
    "bash": """\
_ebmtrain() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" word
    word="${line##*[[:space:]]}"
    COMPREPLY=($("$1" completion -- "$line" 2> /dev/null))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.,/] ]] && compopt -o nospace
    [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
}
complete -o default -F _ebmtrain ebmtrain
""",
    "zsh": """\
#compdef ebmtrain
_ebmtrain() {
    local -a found
    found=("${(@f)$($words[1] completion -- "$LBUFFER" 2> /dev/null)}")
    [[ -n $found ]] && compadd -Q -S '' -- $found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _ebmtrain ebmtrain
""",
    "fish": """\
function __ebmtrain_words
    set -l found (ebmtrain completion -- (commandline -cp) 2> /dev/null)
    if test -n "$found"
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c ebmtrain -f -a '(__ebmtrain_words)'
""",
}


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "--":
        print("\n".join(_completions(arguments[1])))
        return 0
    if len(arguments) != 1:
        raise ConfigError(f"expected one shell, got {len(arguments)}; usage: {USAGE}")
    (shell,) = arguments
    if shell not in _SCRIPTS:
        raise ConfigError(f"no script for {shell}{suggestion(shell, _SCRIPTS)}; usage: {USAGE}")
    print(_SCRIPTS[shell], end="")
    return 0


def _completions(line: str) -> list[str]:
    """The words that can stand in place of the last, perhaps empty word of the line; empty where a
    path is wanted."""
    _, *before = line.split() or [""]
    word = "" if line[-1:].isspace() or not before else before.pop()
    return sorted({found for found in _candidates(before, word) if found.startswith(word)})


def _candidates(before: Sequence[str], word: str) -> Iterator[str]:
    from ebmtrain.cli.main import VERBS

    folders = [BUILT_IN, *_user_folders(before)]
    known = groups(folders)
    verb = next((w for w in before if w in VERBS), None)
    if verb == "completion":
        yield from _SCRIPTS
    elif verb in ("list", "init"):
        yield from known
        yield from (f"{g}/{o}" for g in known if "/" in word for o in options(folders, g))
    elif verb in (None, "check", "search", "verify"):
        if not before:
            yield from VERBS
        yield from _key_or_value(folders, known, before, word)


def _key_or_value(
    folders: Sequence[Path], known: Sequence[str], before: Sequence[str], word: str
) -> Iterator[str]:
    """Groups, options of a group, sections, and the keys of the parts that the line chooses."""
    key, equals, value = word.partition("=")
    if equals and key in known:
        first = value[: value.rfind(",") + 1]  # of several, for a sweep
        yield from (f"{key}={first}{option}" for option in options(folders, key))
        return
    config = options(folders, "")["config"]
    chosen = read_choices(config)
    words = dict(w.lstrip("+~").split("=", 1) for w in before if "=" in w)
    if path := options(folders, "experiment").get(words.get("experiment", "")):
        chosen |= read_choices(path)
    chosen |= {group: option for group, option in words.items() if group in known}
    found = [(o.key, o.value) for o in read_options(config)]
    for group in known:
        path = options(folders, group).get(chosen.get(group, "").split(",")[0])
        if path and group != "experiment":
            found += [(f"{group}.{o.key}", o.value) for o in read_options(path)]
    keys = {k: v for k, v in found if v and not k.startswith(("hydra", "defaults"))}
    if equals:
        yield from (f"{key}={v}" for v in ("true", "false") if keys.get(key) in ("true", "false"))
        return
    if "." in word:
        yield from (f"{name}=" for name in keys)
        return
    yield from (f"{name}=" for name in [*known, *keys] if "." not in name)
    sections = {name.split(".")[0] for name in keys if "." in name}
    yield from (f"{name}." for name in sections - set(known))


def _user_folders(before: Sequence[str]) -> list[Path]:
    """The folder of `--config-dir DIR`, which may be any text."""
    for i, word in enumerate(before):
        name, _, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            return [Path(value or "".join(before[i + 1 : i + 2]))]
    return []
