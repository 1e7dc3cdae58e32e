#compdef boomerang

_boomerang_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _BOOMERANG_COMPLETE=complete_zsh boomerang)
}

compdef _boomerang_completion boomerang
