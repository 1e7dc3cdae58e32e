"""Running commands in this process, as the shell would."""

from __future__ import annotations

import re
from typing import Any

from typer.testing import CliRunner

from boomerang_cli.cli.app import app


def run(*arguments: object, code: int = 0) -> Any:
    """Run ``boomerang`` with these arguments and return Typer's result; the exit code must be as expected."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def assert_refused(*arguments: object, message: str, code: int = 1) -> None:
    """Check that a command prints nothing but one line ``error: …`` that matches ``message``, and exits with ``code``.

    1 is refused; 2 is wrong usage, whatever the models.
    """
    result = run(*arguments, code=code)
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    assert re.search(message, result.stderr), result.stderr
