
# Gives the models of the configuration file; with the --config of the line.
_flexllm_models() {
  local program=${(Q)_flexllm_words[1]} config word last
  local -a ids
  for word in "${_flexllm_words[@]}"; do
    [[ $last == --config ]] && config=$word
    [[ $word == --config=* ]] && config=${word#--config=}
    last=$word
  done
  config=${(Q)config}
  config=${config/#\~\//$HOME/}
  program=${program/#\~\//$HOME/}
  whence -p -- "$program" > /dev/null || program=flexllm
  ids=(${(f)"$("$program" list --ids ${config:+--config} $config 2> /dev/null < /dev/null)"})
  compadd "$@" -a ids
}

_flexllm() {
  local -a _flexllm_words
  local -A opt_args
  _flexllm_words=("${words[@]}")
  _shtab_flexllm "$@"
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _flexllm "$@" # zsh has read this file to complete a word
else
  compdef _flexllm flexllm xllm
fi
