"""Write the completion scripts of ``completions/``: ``python -m boomerang_cli.cli.completions FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from typer import completion

SHELLS = ("bash", "zsh", "fish")
FIRST_TAB = """
# Loaded out of a folder of fpath by the first Tab, which wants its answer too
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _boomerang_completion "$@"
fi
"""
"""What Typer's script for zsh leaves out: there, the first Tab of a shell would register it and offer nothing."""


def completion_script(shell: str) -> str:
    """Return the script that makes ``shell`` ask ``boomerang`` itself what can follow."""
    script: str = completion.get_completion_script(  # type: ignore[attr-defined]
        prog_name="boomerang", complete_var="_BOOMERANG_COMPLETE", shell=shell
    )
    return script.rstrip() + "\n" + (FIRST_TAB if shell == "zsh" else "")


if __name__ == "__main__":
    for name in SHELLS:
        (Path(sys.argv[1]) / f"boomerang.{name}").write_text(completion_script(name), encoding="utf-8")
