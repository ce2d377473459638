"""`levada completion`: what a shell reads once, so that TAB asks `levada __complete`."""

import sys
from typing import Final

USAGE: Final = """Usage: levada completion bash|zsh|fish

  Print what makes TAB complete commands, options, and names from the cluster.

  bash: source <(levada completion bash)      in ~/.bashrc
  zsh:  source <(levada completion zsh)       in ~/.zshrc, after compinit
  fish: levada completion fish | source       in ~/.config/fish/config.fish
"""
BASH: Final = """# bash completion of levada
_levada() {
    local IFS=$'\\n' found last
    mapfile -t found < <(levada __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [ ${#found[@]} -gt 0 ] || return 0
    last=${found[-1]}; unset 'found[-1]'
    COMPREPLY=("${found[@]%%$'\\t'*}")
    if [ "$last" = ":0" ] && [ ${#COMPREPLY[@]} -eq 0 ]; then compopt -o default; fi
}
complete -F _levada levada
"""
ZSH: Final = """# zsh completion of levada
_levada() {
    local -a found shown; local last
    found=("${(@f)$(levada __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    last=${found[-1]}; found=("${(@)found[1,-2]}")
    shown=("${(@)found//:/\\\\:}"); shown=("${(@)shown/$'\\t'/:}")
    if [[ $last == ":0" && ${#found} -eq 0 ]]; then _files; else _describe levada shown; fi
}
compdef _levada levada
"""
FISH: Final = """# fish completion of levada
function __levada_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (levada __complete $words[2..-1] 2>/dev/null)
    set -l last $found[-1]
    set -e found[-1]
    if test "$last" = ":0"; and test (count $found) -eq 0
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c levada -f -a '(__levada_complete)'
"""
SCRIPTS: Final = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(arguments: list[str]) -> None:
    """Print the script of a shell."""
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
    elif len(arguments) == 1 and arguments[0] in SCRIPTS:
        sys.stdout.write(SCRIPTS[arguments[0]])
    else:
        sys.stderr.write(f"error: which shell? {', '.join(SCRIPTS)}\n{USAGE}")
        sys.exit(2)
