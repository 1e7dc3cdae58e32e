#compdef boomerang

_boomerang_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _BOOMERANG_COMPLETE=complete_zsh boomerang)
}

compdef _boomerang_completion boomerang

# Loaded out of a folder of fpath by the first Tab, which wants its answer too
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _boomerang_completion "$@"
fi
