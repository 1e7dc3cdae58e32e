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


def assert_refused(*arguments: object, message: str) -> None:
    """Check that a command prints nothing but one line ``error: …`` that matches ``message``.

    It exits with 1, or with 2 where the arguments alone are wrong: ``test_usage.py`` says which.
    """
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code in (1, 2), result.output
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    assert re.search(message, result.stderr), result.stderr
