# Gives the models of the configuration file; with the --config of the line.
function _flexllm_models
    set -l words (commandline -op)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -l config
    set -l last
    for word in $words
        if test "$last" = --config
            set config $word
        end
        switch $word
            case '--config=*'
                set config (string replace -- '--config=' '' $word)
        end
        set last $word
    end
    set config (string replace -r '^~/' "$HOME/" -- $config)
    type -q "$program"; or set program flexllm
    if test -n "$config"
        $program list --ids --config $config 2>/dev/null </dev/null
    else
        $program list --ids 2>/dev/null </dev/null
    end
end

complete -c xllm -e
complete -c xllm -w flexllm
