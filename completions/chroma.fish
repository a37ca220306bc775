# fish completion for chroma; made by: chroma completion fish > completions/chroma.fish

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
complete -c chroma -n '__chroma_at \'\'' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at \'\'' -l version -s V -d 'Show the version.'
complete -c chroma -n '__chroma_at \'\'' -a generate -d 'Make a picture: submit, wait, save, print the path.'
complete -c chroma -n '__chroma_at \'\'' -a submit -d 'Submit a job and print its request id; fetch brings the picture.'
complete -c chroma -n '__chroma_at \'\'' -a fetch -d 'Save the pictures of finished jobs; print the paths.'
complete -c chroma -n '__chroma_at \'\'' -a batch -d 'Make the pictures that a file lists, where missing or changed.'
complete -c chroma -n '__chroma_at \'\'' -a presets -d 'List the named sets of defaults.'
complete -c chroma -n '__chroma_at \'\'' -a inspect -d 'Show how pictures were made, from the recipe inside.'
complete -c chroma -n '__chroma_at \'\'' -a sheet -d 'Put pictures side by side, labelled by what differs.'
complete -c chroma -n '__chroma_at \'\'' -a gallery -d 'Make an HTML page of pictures, to look through, filter and sort.'
complete -c chroma -n '__chroma_at \'\'' -a status -d 'Show how jobs are: one line each, ID, STATE, detail.'
complete -c chroma -n '__chroma_at \'\'' -a jobs -d 'Show the job ledger, newest first.'
complete -c chroma -n '__chroma_at \'\'' -a credits -d 'Show the balance; with --min, exit 4 below it, 9 when not known.'
complete -c chroma -n '__chroma_at \'\'' -a login -d 'Check an API key with the gateway and store it for this gateway.'
complete -c chroma -n '__chroma_at \'\'' -a logout -d 'Remove the key that login stored for this gateway.'
complete -c chroma -n '__chroma_at \'\'' -a config -d 'Show the settings and where each came from.'
complete -c chroma -n '__chroma_at \'\'' -a completion -d 'Print the completion script for a shell.'
complete -c chroma -n '__chroma_at \'\'' -a sandbox -d 'Run the practice gateway until Ctrl-C; prints its address first.'

# generate
complete -c chroma -n '__chroma_at generate' -l prompt-file -r -F -d 'Read the prompt from a file (UTF-8).'
complete -c chroma -n '__chroma_at generate' -l preset -s p -r -f -k -a '(chroma completion --values presets 2>/dev/null)' -d 'A named set of defaults; options beside it win. See: chroma presets'
complete -c chroma -n '__chroma_at generate' -l negative-prompt -s n -r -f -d 'What to keep out of the picture.'
complete -c chroma -n '__chroma_at generate' -l aspect -s a -r -f -k -a 'square\\t portrait\\t landscape\\t 1:1\\t 3:4\\t 5:8\\t 9:16\\t 9:21\\t 4:3\\t 3:2\\t 16:9\\t 21:9\\t custom\\t' -d 'Shape of the picture: a ratio (16:9), square, portrait, landscape, or the full name.'
complete -c chroma -n '__chroma_at generate' -l size -r -f -d 'Size in pixels, like 1536x1024.'
complete -c chroma -n '__chroma_at generate' -l width -r -f -d 'Width of the picture.'
complete -c chroma -n '__chroma_at generate' -l height -r -f -d 'Height of the picture.'
complete -c chroma -n '__chroma_at generate' -l cfg -r -f -d 'How closely the picture follows the prompt.'
complete -c chroma -n '__chroma_at generate' -l sampler -r -f -k -a 'euler\\t euler_a\\t heun\\t dpm_2\\t dpm_2_a\\t lms\\t dpm_fast\\t dpm_adaptive\\t dpmpp_2s_a\\t dpmpp_sde\\t' -d 'Sampling method; other names are sent with a warning.'
complete -c chroma -n '__chroma_at generate' -l scheduler -r -f -k -a 'normal\\t karras\\t exponential\\t beta\\t sgm_uniform\\t simple\\t' -d 'Noise schedule.'
complete -c chroma -n '__chroma_at generate' -l steps -r -f -d 'Denoising steps.'
complete -c chroma -n '__chroma_at generate' -l seed -r -f -k -a 'random\\t' -d 'Fixes the randomness: a number, or random.'
complete -c chroma -n '__chroma_at generate' -l samples -r -f -d 'How many pictures.'
complete -c chroma -n '__chroma_at generate' -l format -r -f -k -a 'png\\t jpeg\\t webp\\t' -d 'File format.'
complete -c chroma -n '__chroma_at generate' -l quality -r -f -d 'Quality of JPEG and WebP.'
complete -c chroma -n '__chroma_at generate' -l base64 -d 'Have the picture sent inside the JSON answer.'
complete -c chroma -n '__chroma_at generate' -l no-base64 -d 'Have the picture sent inside the JSON answer.'
complete -c chroma -n '__chroma_at generate' -l from -r -F -d 'Start from the recipe of a picture, or of a job; options beside it win.'
complete -c chroma -n '__chroma_at generate' -l output -s o -r -F -d 'File, folder, template, or - for stdout. Default: {slug}-{seed}.{ext} here.'
complete -c chroma -n '__chroma_at generate' -l overwrite -d 'Replace a file that exists.'
complete -c chroma -n '__chroma_at generate' -l no-metadata -d 'Write no recipe into the picture.'
complete -c chroma -n '__chroma_at generate' -l open -d 'Show the picture in the viewer.'
complete -c chroma -n '__chroma_at generate' -l preview -d 'Show the picture in the terminal.'
complete -c chroma -n '__chroma_at generate' -l sweep -r -f -d 'Make every combination, like cfg=5,7,9 or seed=1..4; at most twice.'
complete -c chroma -n '__chroma_at generate' -l sync -d 'One blocking v1 call; there is nothing to fetch if it breaks. Not with --resubmit-unknown.'
complete -c chroma -n '__chroma_at generate' -l dry-run -d 'Show the request; send nothing, no key needed.'
complete -c chroma -n '__chroma_at generate' -l timeout -r -f -d 'Give up waiting after this long; the job goes on. Default: 600.'
complete -c chroma -n '__chroma_at generate' -l yes -s y -d 'Do not ask before large orders.'
complete -c chroma -n '__chroma_at generate' -l no-ledger -d 'Do not use the job ledger.'
complete -c chroma -n '__chroma_at generate' -l resubmit-unknown -d 'Send again when no answer says whether the submit arrived; may pay twice.'
complete -c chroma -n '__chroma_at generate' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at generate' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at generate' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at generate' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at generate' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at generate' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at generate' -l help -s h -d 'Show the help and exit.'

# submit
complete -c chroma -n '__chroma_at submit' -l prompt-file -r -F -d 'Read the prompt from a file (UTF-8).'
complete -c chroma -n '__chroma_at submit' -l preset -s p -r -f -k -a '(chroma completion --values presets 2>/dev/null)' -d 'A named set of defaults; options beside it win. See: chroma presets'
complete -c chroma -n '__chroma_at submit' -l negative-prompt -s n -r -f -d 'What to keep out of the picture.'
complete -c chroma -n '__chroma_at submit' -l aspect -s a -r -f -k -a 'square\\t portrait\\t landscape\\t 1:1\\t 3:4\\t 5:8\\t 9:16\\t 9:21\\t 4:3\\t 3:2\\t 16:9\\t 21:9\\t custom\\t' -d 'Shape of the picture: a ratio (16:9), square, portrait, landscape, or the full name.'
complete -c chroma -n '__chroma_at submit' -l size -r -f -d 'Size in pixels, like 1536x1024.'
complete -c chroma -n '__chroma_at submit' -l width -r -f -d 'Width of the picture.'
complete -c chroma -n '__chroma_at submit' -l height -r -f -d 'Height of the picture.'
complete -c chroma -n '__chroma_at submit' -l cfg -r -f -d 'How closely the picture follows the prompt.'
complete -c chroma -n '__chroma_at submit' -l sampler -r -f -k -a 'euler\\t euler_a\\t heun\\t dpm_2\\t dpm_2_a\\t lms\\t dpm_fast\\t dpm_adaptive\\t dpmpp_2s_a\\t dpmpp_sde\\t' -d 'Sampling method; other names are sent with a warning.'
complete -c chroma -n '__chroma_at submit' -l scheduler -r -f -k -a 'normal\\t karras\\t exponential\\t beta\\t sgm_uniform\\t simple\\t' -d 'Noise schedule.'
complete -c chroma -n '__chroma_at submit' -l steps -r -f -d 'Denoising steps.'
complete -c chroma -n '__chroma_at submit' -l seed -r -f -k -a 'random\\t' -d 'Fixes the randomness: a number, or random.'
complete -c chroma -n '__chroma_at submit' -l samples -r -f -d 'How many pictures.'
complete -c chroma -n '__chroma_at submit' -l format -r -f -k -a 'png\\t jpeg\\t webp\\t' -d 'File format.'
complete -c chroma -n '__chroma_at submit' -l quality -r -f -d 'Quality of JPEG and WebP.'
complete -c chroma -n '__chroma_at submit' -l base64 -d 'Have the picture sent inside the JSON answer.'
complete -c chroma -n '__chroma_at submit' -l no-base64 -d 'Have the picture sent inside the JSON answer.'
complete -c chroma -n '__chroma_at submit' -l output -s o -r -F -d 'File, folder, template, or - for stdout. Default: {slug}-{seed}.{ext} here.'
complete -c chroma -n '__chroma_at submit' -l overwrite -d 'Replace a file that exists.'
complete -c chroma -n '__chroma_at submit' -l no-metadata -d 'Write no recipe into the picture.'
complete -c chroma -n '__chroma_at submit' -l yes -s y -d 'Do not ask before large orders.'
complete -c chroma -n '__chroma_at submit' -l no-ledger -d 'Do not use the job ledger.'
complete -c chroma -n '__chroma_at submit' -l resubmit-unknown -d 'Send again when no answer says whether the submit arrived; may pay twice.'
complete -c chroma -n '__chroma_at submit' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at submit' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at submit' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at submit' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at submit' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at submit' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at submit' -l help -s h -d 'Show the help and exit.'

# fetch
complete -c chroma -n '__chroma_at fetch' -l pending -d 'All jobs of this ledger that are not home yet.'
complete -c chroma -n '__chroma_at fetch' -l wait -d 'Wait for those that are not finished.'
complete -c chroma -n '__chroma_at fetch' -l force -d 'Download again what is saved already.'
complete -c chroma -n '__chroma_at fetch' -l output -s o -r -F -d 'File, folder, template, or - for stdout. Default: {slug}-{seed}.{ext} here.'
complete -c chroma -n '__chroma_at fetch' -l overwrite -d 'Replace a file that exists.'
complete -c chroma -n '__chroma_at fetch' -l no-metadata -d 'Write no recipe into the picture.'
complete -c chroma -n '__chroma_at fetch' -l preview -d 'Show the picture in the terminal.'
complete -c chroma -n '__chroma_at fetch' -l timeout -r -f -d 'Give up waiting after this long; the job goes on. Default: 600.'
complete -c chroma -n '__chroma_at fetch' -l no-ledger -d 'Do not use the job ledger.'
complete -c chroma -n '__chroma_at fetch' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at fetch' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at fetch' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at fetch' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at fetch' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at fetch' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at fetch' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at fetch' -f -k -a '(chroma completion --values ids 2>/dev/null)'

# batch
complete -c chroma -n '__chroma_at batch' -l manifest-format -r -f -k -a 'toml\\t jsonl\\t csv\\t' -d 'Default: by the ending, else by the first line.'
complete -c chroma -n '__chroma_at batch' -l allow-outside -d 'Outputs may leave the manifest\'s folder.'
complete -c chroma -n '__chroma_at batch' -l check -d 'Only look: exit 1 when anything is to be done.'
complete -c chroma -n '__chroma_at batch' -l deep -d 'With --check: read every file, whatever its size and time.'
complete -c chroma -n '__chroma_at batch' -l dry-run -d 'Show what would be made, and what it would cost.'
complete -c chroma -n '__chroma_at batch' -l prune -d 'Afterwards remove what the manifest dropped.'
complete -c chroma -n '__chroma_at batch' -l yes -s y -d 'With --prune: also what only the lock calls ours.'
complete -c chroma -n '__chroma_at batch' -l overwrite -d 'Also replace files that others made or changed.'
complete -c chroma -n '__chroma_at batch' -l jobs -s j -r -f -d 'Jobs in flight, 1 to 1000. Default: 8.'
complete -c chroma -n '__chroma_at batch' -l rate -r -f -d 'At most so many submits, like 30/min.'
complete -c chroma -n '__chroma_at batch' -l keep-going -d 'Go on when an image fails; the default.'
complete -c chroma -n '__chroma_at batch' -l fail-fast -d 'Begin no more when an image fails.'
complete -c chroma -n '__chroma_at batch' -l retry-failed -r -f -d 'Submit a FAILED image again, so many times.'
complete -c chroma -n '__chroma_at batch' -l budget -r -f -d 'Spend at most this in this run.'
complete -c chroma -n '__chroma_at batch' -l shard -r -f -d 'Only share K of N, for several machines.'
complete -c chroma -n '__chroma_at batch' -l summary -r -F -d 'Write the summary as Markdown.'
complete -c chroma -n '__chroma_at batch' -l junit -r -F -d 'Write the outcome as JUnit XML.'
complete -c chroma -n '__chroma_at batch' -l timeout -r -f -d 'Give up waiting after this long; the job goes on. Default: 600.'
complete -c chroma -n '__chroma_at batch' -l no-ledger -d 'Do not use the job ledger.'
complete -c chroma -n '__chroma_at batch' -l resubmit-unknown -d 'Send again when no answer says whether the submit arrived; may pay twice.'
complete -c chroma -n '__chroma_at batch' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at batch' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at batch' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at batch' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at batch' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at batch' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at batch' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at batch' -F

# presets
complete -c chroma -n '__chroma_at presets' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at presets' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at presets' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at presets' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at presets' -l help -s h -d 'Show the help and exit.'

# inspect
complete -c chroma -n '__chroma_at inspect' -l command -d 'Print the command line that makes it again.'
complete -c chroma -n '__chroma_at inspect' -l preview -d 'Show the picture in the terminal.'
complete -c chroma -n '__chroma_at inspect' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at inspect' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at inspect' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at inspect' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at inspect' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at inspect' -F

# sheet
complete -c chroma -n '__chroma_at sheet' -l columns -r -f -d 'How many pictures side by side.'
complete -c chroma -n '__chroma_at sheet' -l output -s o -r -F -d 'The sheet: a .png, .jpg or .webp file. Default: sheet.png'
complete -c chroma -n '__chroma_at sheet' -l overwrite -d 'Replace a file that exists.'
complete -c chroma -n '__chroma_at sheet' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at sheet' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at sheet' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at sheet' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at sheet' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at sheet' -F

# gallery
complete -c chroma -n '__chroma_at gallery' -l output -s o -r -F -d 'The page. Default: index.html in the folder, made anew each time.'
complete -c chroma -n '__chroma_at gallery' -l overwrite -d 'Replace a file that exists.'
complete -c chroma -n '__chroma_at gallery' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at gallery' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at gallery' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at gallery' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at gallery' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at gallery' -F

# status
complete -c chroma -n '__chroma_at status' -l no-ledger -d 'Do not use the job ledger.'
complete -c chroma -n '__chroma_at status' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at status' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at status' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at status' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at status' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at status' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at status' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at status' -f -k -a '(chroma completion --values ids 2>/dev/null)'

# jobs
complete -c chroma -n '__chroma_at jobs' -l pending -d 'Only jobs that are not home yet.'
complete -c chroma -n '__chroma_at jobs' -l failed -d 'Only jobs that failed or expired.'
complete -c chroma -n '__chroma_at jobs' -l limit -r -f -d 'Show at most this many. Default: 20.'
complete -c chroma -n '__chroma_at jobs' -l prune -r -f -d 'Remove settled jobs older than this.'
complete -c chroma -n '__chroma_at jobs' -l forget -r -f -k -a '(chroma completion --values ids 2>/dev/null)' -d 'Settle an unknown job as not worth asking about.'
complete -c chroma -n '__chroma_at jobs' -l resubmit -r -f -k -a '(chroma completion --values ids 2>/dev/null)' -d 'Settle an unknown job and send it again.'
complete -c chroma -n '__chroma_at jobs' -l yes -s y -d 'Do not ask before large orders.'
complete -c chroma -n '__chroma_at jobs' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at jobs' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at jobs' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at jobs' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at jobs' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at jobs' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at jobs' -l help -s h -d 'Show the help and exit.'

# credits
complete -c chroma -n '__chroma_at credits' -l min -r -f -d 'Exit 4 when there is less than this.'
complete -c chroma -n '__chroma_at credits' -l no-ledger -d 'Do not use the job ledger.'
complete -c chroma -n '__chroma_at credits' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at credits' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at credits' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at credits' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at credits' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at credits' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at credits' -l help -s h -d 'Show the help and exit.'

# login
complete -c chroma -n '__chroma_at login' -l stdin -d 'Read the key from stdin instead of asking.'
complete -c chroma -n '__chroma_at login' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at login' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at login' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at login' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at login' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at login' -l help -s h -d 'Show the help and exit.'

# logout
complete -c chroma -n '__chroma_at logout' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at logout' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at logout' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at logout' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at logout' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at logout' -l help -s h -d 'Show the help and exit.'

# config
complete -c chroma -n '__chroma_at config' -l no-ledger -d 'Do not use the job ledger.'
complete -c chroma -n '__chroma_at config' -l base-url -r -f -d 'Another gateway address.'
complete -c chroma -n '__chroma_at config' -l sandbox -d 'Use the gateway inside chroma: no key, no cost.'
complete -c chroma -n '__chroma_at config' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at config' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at config' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at config' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at config' -l help -s h -d 'Show the help and exit.'

# completion
complete -c chroma -n '__chroma_at completion' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at completion' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at completion' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at completion' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at completion' -l help -s h -d 'Show the help and exit.'
complete -c chroma -n '__chroma_at completion' -f -k -a 'bash\\t zsh\\t fish\\t'

# sandbox
complete -c chroma -n '__chroma_at sandbox' -l port -r -f -d 'Port on 127.0.0.1. Default: a free one.'
complete -c chroma -n '__chroma_at sandbox' -l latency -r -f -d 'Seconds that a job takes. Default: 3.'
complete -c chroma -n '__chroma_at sandbox' -l rpm -r -f -d 'API calls a minute, 0 for no limit. Default: 600.'
complete -c chroma -n '__chroma_at sandbox' -l credits -r -f -d 'Credits to start with. Default: 25.'
complete -c chroma -n '__chroma_at sandbox' -l json -d 'JSON lines on stdout and stderr.'
complete -c chroma -n '__chroma_at sandbox' -l quiet -s q -d 'Only results and errors.'
complete -c chroma -n '__chroma_at sandbox' -l verbose -s v -d 'Show each HTTP exchange.'
complete -c chroma -n '__chroma_at sandbox' -l debug -d 'Show a traceback with an error.'
complete -c chroma -n '__chroma_at sandbox' -l help -s h -d 'Show the help and exit.'
