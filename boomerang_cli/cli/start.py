"""Where ``boomerang`` begins: Ctrl-C and the streams are seen to before anything that takes time is imported."""

from __future__ import annotations

from boomerang_cli.cli import interrupts


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    interrupts.install()
    try:
        from boomerang_cli.cli import streams

        streams.prepare()
        from boomerang_cli.cli.app import app

        try:
            app(prog_name="boomerang")
        except SystemExit as end:
            interrupts.hurry(end.code if isinstance(end.code, int) else 0)
            raise
        finally:
            streams.finish()
    except KeyboardInterrupt:  # outside of every command, where nothing is open
        interrupts.end_at_once()
