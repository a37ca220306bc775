# bash completion for chroma; made by: chroma completion bash > completions/chroma.bash
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
        --prompt-file) _chroma_files ;;
        -p|--preset) _chroma_listed presets ;;
        --negative-prompt|-n) : ;;
        --aspect|-a) _chroma_words "square
portrait
landscape
1:1
3:4
5:8
9:16
9:21
4:3
3:2
16:9
21:9
custom" ;;
        --size) : ;;
        --width) : ;;
        --height) : ;;
        --cfg) : ;;
        --sampler) _chroma_words "euler
euler_a
heun
dpm_2
dpm_2_a
lms
dpm_fast
dpm_adaptive
dpmpp_2s_a
dpmpp_sde" ;;
        --scheduler) _chroma_words "normal
karras
exponential
beta
sgm_uniform
simple" ;;
        --steps) : ;;
        --seed) _chroma_words "random" ;;
        --samples) : ;;
        --format) _chroma_words "png
jpeg
webp" ;;
        --quality) : ;;
        --from) _chroma_files ;;
        -o|--output) _chroma_files ;;
        --sweep) : ;;
        --timeout) : ;;
        --base-url) : ;;
        --manifest-format) _chroma_words "toml
jsonl
csv" ;;
        -j|--jobs) : ;;
        --rate) : ;;
        --retry-failed) : ;;
        --budget) : ;;
        --shard) : ;;
        --summary) _chroma_files ;;
        --junit) _chroma_files ;;
        --columns) : ;;
        --limit) : ;;
        --prune) : ;;
        --forget) _chroma_listed ids ;;
        --resubmit) _chroma_listed ids ;;
        --min) : ;;
        --port) : ;;
        --latency) : ;;
        --rpm) : ;;
        --credits) : ;;
        *) return 1 ;;
    esac
}

_chroma_argument() {
    case $1 in
        generate) : ;;
        submit) : ;;
        fetch) _chroma_listed ids ;;
        batch) _chroma_files ;;
        inspect) _chroma_files ;;
        sheet) _chroma_files ;;
        gallery) _chroma_files ;;
        status) _chroma_listed ids ;;
        completion) _chroma_words "bash
zsh
fish" ;;
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
        _chroma_words "generate
submit
fetch
batch
presets
inspect
sheet
gallery
status
jobs
credits
login
logout
config
completion
sandbox
--help
-h
--version
-V"
    elif _chroma_value "$previous"; then
        :
    elif [[ $cur == -* ]]; then
        case $command in
            generate) _chroma_words "--prompt-file
-p
--preset
--negative-prompt
-n
--aspect
-a
--size
--width
--height
--cfg
--sampler
--scheduler
--steps
--seed
--samples
--format
--quality
--base64
--no-base64
--from
-o
--output
--overwrite
--no-metadata
--open
--preview
--sweep
--sync
--dry-run
--timeout
-y
--yes
--no-ledger
--resubmit-unknown
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            submit) _chroma_words "--prompt-file
-p
--preset
--negative-prompt
-n
--aspect
-a
--size
--width
--height
--cfg
--sampler
--scheduler
--steps
--seed
--samples
--format
--quality
--base64
--no-base64
-o
--output
--overwrite
--no-metadata
-y
--yes
--no-ledger
--resubmit-unknown
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            fetch) _chroma_words "--pending
--wait
--force
-o
--output
--overwrite
--no-metadata
--preview
--timeout
--no-ledger
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            batch) _chroma_words "--manifest-format
--allow-outside
--check
--deep
--dry-run
--prune
-y
--yes
--overwrite
-j
--jobs
--rate
--keep-going
--fail-fast
--retry-failed
--budget
--shard
--summary
--junit
--timeout
--no-ledger
--resubmit-unknown
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            presets) _chroma_words "--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            inspect) _chroma_words "--command
--preview
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            sheet) _chroma_words "--columns
-o
--output
--overwrite
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            gallery) _chroma_words "-o
--output
--overwrite
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            status) _chroma_words "--no-ledger
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            jobs) _chroma_words "--pending
--failed
--limit
--prune
--forget
--resubmit
-y
--yes
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            credits) _chroma_words "--min
--no-ledger
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            login) _chroma_words "--stdin
--base-url
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            logout) _chroma_words "--base-url
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            config) _chroma_words "--no-ledger
--base-url
--sandbox
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            completion) _chroma_words "--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
            sandbox) _chroma_words "--port
--latency
--rpm
--credits
--json
-q
--quiet
-v
--verbose
--debug
--help
-h" ;;
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
