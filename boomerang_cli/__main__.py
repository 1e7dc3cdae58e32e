"""``python -m boomerang_cli`` is ``boomerang``."""

from boomerang_cli.cli.app import app

if __name__ == "__main__":
    app(prog_name="boomerang")
