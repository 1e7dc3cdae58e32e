"""Write the completion scripts of ``completions/``: ``python -m boomerang_cli.cli.completions FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from typer import completion

SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str) -> str:
    """Return the script that makes ``shell`` ask ``boomerang`` itself what can follow."""
    script: str = completion.get_completion_script(  # type: ignore[attr-defined]
        prog_name="boomerang", complete_var="_BOOMERANG_COMPLETE", shell=shell
    )
    return script.rstrip() + "\n"


if __name__ == "__main__":
    for name in SHELLS:
        (Path(sys.argv[1]) / f"boomerang.{name}").write_text(completion_script(name), encoding="utf-8")
