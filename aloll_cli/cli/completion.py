"""``aloll completion SHELL``: a script for bash, zsh or fish, which asks complete.py on every tab."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aloll_cli.cli.complete import SHELLS
from aloll_cli.cli.flags import ALL
from aloll_cli.cli.options import SECOND
from aloll_cli.errors import UserError
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.installed import installed
from aloll_cli.stages import STAGES, read_by

if TYPE_CHECKING:
    from aloll_cli.cli.options import Catalogue, Option

SCRIPTS = {
    "bash": r"""# completion of aloll; in ~/.bashrc: eval "$(aloll completion bash)"
_aloll() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\n'
    local word="${line##* }"
    COMPREPLY=($(COMPLETE "$line" 2>/dev/null | cut -f1))
    [[ "${COMPREPLY[*]}" == *= || "${COMPREPLY[*]}" == *=$'\n'* ]] && compopt -o nospace 2>/dev/null
    # bash takes what stands behind = for a word of its own
    [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}")
    return 0
}
complete -o default -F _aloll aloll
""",
    "zsh": r"""#compdef aloll
# completion of aloll; in ~/.zshrc: eval "$(aloll completion zsh)"
_aloll() {
    local -a found keys
    found=(${(f)"$(COMPLETE "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null | cut -f1)"})
    keys=(${(M)found:#*=})
    found=(${found:#*=})
    (( $#keys )) && compadd -S '' -a keys
    (( $#found )) && compadd -a found
    (( $#keys + $#found )) || { compset -P '*='; _files }
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _aloll aloll
""",
    "fish": r"""# completion of aloll; in ~/.config/fish/config.fish: aloll completion fish | source
function __aloll_complete
    COMPLETE (commandline -cp) 2>/dev/null
end
complete -c aloll -f -a '(__aloll_complete)'
""",
}


def script(shell: str) -> str:
    """The script for a shell.

    Raises:
        UserError: there is none.
    """
    if shell not in SCRIPTS:
        what = f"there is no completion for {shell}." if shell else "completion needs the name of a shell."
        raise UserError(what, f"aloll completion {' or '.join(SHELLS)}")
    # by its path and without site-packages: half the time
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("complete.py")), *map(str, _installed())]
    return SCRIPTS[shell].replace("COMPLETE", shlex.join(command))


def _installed() -> list[Path]:
    """The folders of installed packages of plugins, as of now; none where one is broken, which every other command says."""
    with suppress(UserError):
        return list(installed())
    return []


def table(catalogue: Catalogue, flags: dict[str, str]) -> dict[str, Any]:
    """All that complete.py knows, as plain values.

    Args:
        catalogue: every option.
        flags: those of every stage, with a description each.
    """
    groups = {}
    for group, default in catalogue.defaults.items():
        names = catalogue.names(group)
        choices = [catalogue.choice(group, name) for name in names] if group != "experiment" else catalogue.experiments()
        known = {choice.name: {"what": choice.what, "options": _plain(choice.options)} for choice in choices}
        groups[group] = {"default": default, "what": catalogue.about(group), "choices": known}
    return {
        "stages": {name: {"what": stage.what} | _used(name) for name, stage in STAGES.items()},
        "flags": flags,
        "all": ALL[1],
        "options": _plain(catalogue.root),
        "groups": groups,
    }


def _used(name: str) -> dict[str, list[str]]:
    """The options and groups that a stage reads."""
    groups = (*GROUPS, *SECOND, "experiment")
    read = read_by(name)
    return {"options": [key for key in read if key not in groups], "groups": [key for key in read if key in groups]}


def _plain(options: dict[str, Option]) -> dict[str, Any]:
    found = {key: {"what": option.what} | ({"values": option.values} if option.values else {}) for key, option in options.items()}
    return {key: option for key, option in found.items() if ".parts." not in key}
