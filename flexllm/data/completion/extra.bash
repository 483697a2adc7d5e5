
# Gives the models of the configuration file that begin with $1, as the line needs them; with the --config of the line.
_flexllm_models() {
  local id
  "$_flexllm_program" list --ids ${_flexllm_config:+--config "$_flexllm_config"} 2> /dev/null < /dev/null |
    while IFS= read -r id; do
      [[ $id == "$1"* ]] && printf "$_flexllm_form\n" "$id"
    done
}

# These two run in a subshell, where compopt changes nothing: they leave a mark for _flexllm.
_flexllm_paths() { echo "<paths>"; }
_flexllm_folders() { echo "<folders>"; }

# Joins the words that bash has divided at = and :, so that --model=qwen2:7b is --model and qwen2:7b; finds what
# _flexllm_models needs; calls what shtab wrote; and gives what is to stand for the last piece, which is all that bash puts
# something in place of.
_flexllm() {
  local IFS=$' \t\n'
  local rest=$COMP_LINE word last="" i current=0
  local -a joined
  for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
    word=${COMP_WORDS[i]}
    if ((i > 0)) && [[ $rest != [[:space:]]* && ( $word == [=:]* || $last == *[=:] ) ]]; then
      joined[${#joined[@]} - 1]+=$word
    else
      joined[${#joined[@]}]=$word
    fi
    rest=${rest#"${rest%%[![:space:]]*}"}
    rest=${rest#"$word"}
    last=$word
    ((i == COMP_CWORD)) && current=$((${#joined[@]} - 1))
  done

  local _flexllm_program=${joined[0]} _flexllm_config=""
  _flexllm_program=${_flexllm_program/#\~\//$HOME/}
  type -P "$_flexllm_program" > /dev/null || _flexllm_program=flexllm
  local -a COMP_WORDS
  local COMP_CWORD=0 option="" value
  last=""
  for ((i = 0; i < ${#joined[@]}; i++)); do
    word=${joined[i]}
    [[ $last == --config ]] && _flexllm_config=$word
    if [[ $word == --*=* ]]; then
      COMP_WORDS[${#COMP_WORDS[@]}]=${word%%=*}
      [[ ${word%%=*} == --config ]] && _flexllm_config=${word#*=}
      ((i == current)) && option=${word%%=*}=
      word=${word#*=}
    fi
    COMP_WORDS[${#COMP_WORDS[@]}]=$word
    ((i == current)) && COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    last=$word
  done
  _flexllm_config=${_flexllm_config/#\~\//$HOME/}
  _flexllm_config=${_flexllm_config//[\"\'\\]/}
  local _flexllm_form=%q # between quotes, a name stands as it is
  [[ ${COMP_WORDS[COMP_CWORD]} == [\"\']* ]] && _flexllm_form=%s
  value=${COMP_WORDS[COMP_CWORD]#[\"\']}
  COMP_WORDS[COMP_CWORD]=$value

  _shtab_flexllm

  case ${COMPREPLY[0]-} in
    "<paths>" | "<folders>") # readline knows best how to write a file's name
      word=${COMPREPLY[0]}
      COMPREPLY=()
      if type -t compopt > /dev/null; then
        if [[ $word == "<paths>" ]]; then compopt -o default; else compopt -o dirnames; fi
      else # bash 3
        [[ $word == "<paths>" ]] && i=-f || i=-d
        while IFS= read -r word; do COMPREPLY[${#COMPREPLY[@]}]=$word; done < <(compgen "$i" -- "$value")
      fi
      return
      ;;
  esac

  # What stands before the last = or : of the word is not replaced, and so not to be given again, but between quotes.
  local before=""
  [[ $_flexllm_form == %q && $COMP_WORDBREAKS == *:* ]] && before=${value%"${value##*:}"}
  for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
    word=${COMPREPLY[i]#"$before"}
    [[ $option && $COMP_WORDBREAKS != *=* ]] && word=$option$word
    COMPREPLY[i]=$word
  done
}

complete -o bashdefault -F _flexllm flexllm xllm
