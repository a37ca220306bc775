"""Completion scripts for bash, zsh and fish, made from the command line's own description.

The scripts know commands, options and fixed choices themselves, so completing is instant; they call
``chroma`` only for what changes: the ids of the ledger and the presets.
"""

from __future__ import annotations

from collections.abc import Iterable

from chroma_cli.cli.options import Opt
from chroma_cli.cli.surface import HELP, VERSION, CommandSpec, commands

SHELLS = ("bash", "zsh", "fish")
FILES = {"bash": "chroma.bash", "zsh": "_chroma", "fish": "chroma.fish"}

_HEADER = "made by: chroma completion {shell} > completions/{file}"
_DYNAMIC = ("ids", "presets")


def script(shell: str) -> str:
    """The whole script for one of :data:`SHELLS`."""
    body = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()
    return body.replace("@HEADER@", _HEADER.format(shell=shell, file=FILES[shell]))


def _flags(option: Opt) -> list[str]:
    """Every spelling of an option; ``--base64/--no-base64`` are two."""
    return [part for flag in option.flags for part in flag.split("/")]


def _options(command: CommandSpec) -> list[Opt]:
    return [*command.options, HELP]


def _by_value(all_commands: Iterable[CommandSpec]) -> list[Opt]:
    """The options that take a value, each once: they mean the same in every command."""
    found: dict[str, Opt] = {}
    for command in all_commands:
        for option in command.options:
            if option.takes_value:
                found.setdefault(option.flags[0], option)
    return list(found.values())


# --- bash ------------------------------------------------------------------------------------------------

_BASH = r"""# bash completion for chroma; @HEADER@
# works in bash 3.2 (macOS) too

# the words before the cursor as chroma sees them: bash breaks them at : and = besides
_chroma_split() {
    local rest=${COMP_LINE:0:COMP_POINT} glued="" index piece count=0
    # called by something other than readline
    [[ -z $COMP_LINE ]] && rest="${COMP_WORDS[*]:0:COMP_CWORD + 1}"
    words=()
    for ((index = 0; index <= COMP_CWORD; index++)); do
        piece=${COMP_WORDS[index]}
        if [[ $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            glued=""
        fi
        [[ $index -eq $COMP_CWORD ]] && piece=$rest
        if [[ -n $glued ]]; then
            words[count - 1]+=$piece
        else
            words[count]=$piece
            count=$((count + 1))
        fi
        rest=${rest#"$piece"}
        glued=yes
    done
    cur=${words[count - 1]}
    previous=""
    [[ $count -gt 1 ]] && previous=${words[count - 2]}
}

_chroma_words() {
    local word
    while IFS= read -r word; do
        [[ -n $word && $word == "$cur"* ]] && COMPREPLY+=("$word")
    done <<<"$1"
}

# words that change: as they must be typed
_chroma_listed() {
    local word rest
    while IFS=$'\t' read -r word rest; do
        [[ -n $word && $word == "$cur"* ]] && COMPREPLY+=("$(printf %q "$word")")
    done < <(chroma completion --values "$1" 2>/dev/null)
}

# readline's own completion of file names knows about quotes, spaces and ~
_chroma_files() {
    compopt -o default 2>/dev/null
}

_chroma_value() {
    case $1 in
@VALUES@
        *) return 1 ;;
    esac
}

_chroma_argument() {
    case $1 in
@ARGUMENTS@
    esac
}

_chroma() {
    local cur previous command="" index head words
    COMPREPLY=()
    _chroma_split
    for ((index = 1; index < ${#words[@]} - 1; index++)); do
        [[ ${words[index]} != -* ]] && command=${words[index]} && break
    done
    if [[ $cur == --*=* ]]; then
        head=${cur%%=*}
        cur=${cur#*=}
        _chroma_value "$head"
    elif [[ -z $command ]]; then
        _chroma_words "@COMMANDS@
@ROOT@"
    elif _chroma_value "$previous"; then
        :
    elif [[ $cur == -* ]]; then
        case $command in
@OPTIONS@
        esac
    else
        _chroma_argument "$command"
    fi
    # only what comes behind the last break of bash's own word is replaced
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        head=${cur%"${cur##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
    return 0
}

if type compopt >/dev/null 2>&1; then
    complete -F _chroma chroma
else
    complete -o default -F _chroma chroma
fi
"""


def _bash() -> str:
    every = commands()
    values = [f"        {'|'.join(_flags(one))}) {_bash_value(one)} ;;" for one in _by_value(every)]
    arguments = [
        f"        {command.name}) {_bash_value(command.argument)} ;;"
        for command in every
        if command.argument is not None
    ]
    options = []
    for command in every:
        flags = "\n".join(flag for option in _options(command) for flag in _flags(option))
        options.append(f'            {command.name}) _chroma_words "{flags}" ;;')
    return (
        _BASH.replace("@VALUES@", "\n".join(values))
        .replace("@ARGUMENTS@", "\n".join(arguments))
        .replace("@COMMANDS@", "\n".join(command.name for command in every))
        .replace("@ROOT@", "\n".join([*_flags(HELP), *_flags(VERSION)]))
        .replace("@OPTIONS@", "\n".join(options))
    )


def _bash_value(option: Opt) -> str:
    if option.choices:
        return '_chroma_words "' + "\n".join(option.choices) + '"'
    if option.complete in _DYNAMIC:
        return f"_chroma_listed {option.complete}"
    return "_chroma_files" if option.complete == "files" else ":"


# --- zsh -------------------------------------------------------------------------------------------------

_ZSH = r"""#compdef chroma
# zsh completion for chroma; @HEADER@

_chroma_listed() {
    local -a lines described
    local line
    lines=("${(@f)$(chroma completion --values $1 2>/dev/null)}")
    for line in $lines; do
        [[ -n $line ]] && described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    _describe -t $1 $1 described
}

_chroma() {
    local curcontext="$curcontext" state line
    typeset -A opt_args
    _arguments -C \
        '(-h --help)'{-h,--help}'[Show the help and exit.]' \
        '(-V --version)'{-V,--version}'[Show the version.]' \
        '1: :->command' \
        '*:: :->rest'
    case $state in
        command)
            local -a known
            known=(
@COMMANDS@
            )
            _describe -t commands command known
            ;;
        rest)
            case $words[1] in
@CASES@
            esac
            ;;
    esac
}

if [[ $funcstack[1] == _chroma ]]; then
    _chroma "$@"
else
    compdef _chroma chroma
fi
"""


def _zsh() -> str:
    every = commands()
    known = [f"                {_zsh_quoted(_zsh_colon(one.name) + ':' + one.summary)}" for one in every]
    cases = []
    for command in every:
        parts = [_zsh_option(option) for option in _options(command)]
        if command.argument is not None:
            many = "*" if command.argument.type is not str else "1"
            parts.append(_zsh_quoted(f"{many}:{command.argument.name}:") + _zsh_action(command.argument))
        lines = " \\\n".join(
            ["                    _arguments", *(f"                        {one}" for one in parts)]
        )
        cases.append(f"                {command.name})\n{lines}\n                    ;;")
    return _ZSH.replace("@COMMANDS@", "\n".join(known)).replace("@CASES@", "\n".join(cases))


def _zsh_option(option: Opt) -> str:
    flags = _flags(option)
    about = _zsh_bracket(option.brief)
    value = ""
    if option.takes_value:
        value = f":{_zsh_colon(option.metavar or option.name)}:"
    action = _zsh_action(option) if option.takes_value else ""
    if len(flags) == 1:
        sign = "=" if option.takes_value and flags[0].startswith("--") else ""
        return _zsh_quoted(f"{flags[0]}{sign}[{about}]{value}") + action
    spelled = ",".join(
        f"{flag}{'=' if option.takes_value and flag.startswith('--') else ''}" for flag in flags
    )
    return (
        _zsh_quoted(f"({' '.join(flags)})") + "{" + spelled + "}" + _zsh_quoted(f"[{about}]{value}") + action
    )


def _zsh_action(option: Opt) -> str:
    if option.choices:
        return _zsh_quoted("(" + " ".join(_zsh_choice(one) for one in option.choices) + ")")
    if option.complete in _DYNAMIC:
        return _zsh_quoted(f"{{_chroma_listed {option.complete}}}")
    return "_files" if option.complete == "files" else _zsh_quoted(" ")


def _zsh_choice(word: str) -> str:
    return word.replace(":", r"\:").replace(" ", r"\ ")


def _zsh_colon(word: str) -> str:
    return word.replace(":", r"\:")


def _zsh_bracket(words: str) -> str:
    return words.replace("\\", r"\\").replace("[", r"\[").replace("]", r"\]").replace(":", r"\:")


def _zsh_quoted(words: str) -> str:
    return "'" + words.replace("'", r"'\''") + "'"


# --- fish ------------------------------------------------------------------------------------------------


_FISH = r"""# fish completion for chroma; @HEADER@

# the command is the first word that is no option
function __chroma_command
    set -l words (commandline -opc)
    set -e words[1]
    for word in $words
        if not string match -q -- '-*' "$word"
            echo "$word"
            return
        end
    end
end

function __chroma_at
    set -l found (__chroma_command)
    test "$found" = "$argv[1]"
end

complete -c chroma -f
"""


def _fish() -> str:
    every = commands()
    before = _fish_quoted("__chroma_at ''")
    lines = [_FISH + _fish_option(HELP, before), _fish_option(VERSION, before)]
    lines += [
        f"complete -c chroma -n {before} -a {command.name} -d {_fish_quoted(command.summary)}"
        for command in every
    ]
    for command in every:
        condition = _fish_quoted(f"__chroma_at {command.name}")
        lines += ["", f"# {command.name}"]
        lines += [_fish_option(option, condition) for option in _options(command)]
        if command.argument is not None:
            values = _fish_values(command.argument)
            if values:
                lines.append(f"complete -c chroma -n {condition}{values}")
    return "\n".join(lines) + "\n"


def _fish_option(option: Opt, condition: str) -> str:
    flags = _flags(option)
    lines = []
    for flag in [flag for flag in flags if flag.startswith("--")]:
        short = [other for other in flags if not other.startswith("--")]
        spelled = f" -l {flag[2:]}" + (f" -s {short[0][1:]}" if short else "")
        value = f" -r{_fish_values(option)}" if option.takes_value else ""
        lines.append(f"complete -c chroma -n {condition}{spelled}{value} -d {_fish_quoted(option.brief)}")
    return "\n".join(lines)


def _fish_values(option: Opt) -> str:
    if option.choices:
        return " -f -k -a " + _fish_quoted(" ".join(_fish_choice(one) for one in option.choices))
    if option.complete in _DYNAMIC:
        return " -f -k -a " + _fish_quoted(f"(chroma completion --values {option.complete} 2>/dev/null)")
    return " -F" if option.complete == "files" else (" -f" if option.flags else "")


def _fish_choice(word: str) -> str:
    """With an empty description: else fish repeats the option's beside every choice."""
    return word.replace(" ", r"\ ") + r"\t"


def _fish_quoted(words: str) -> str:
    return "'" + words.replace("\\", "\\\\").replace("'", r"\'") + "'"
