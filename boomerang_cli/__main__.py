"""``python -m boomerang_cli`` is ``boomerang``."""

from boomerang_cli.cli.start import main

if __name__ == "__main__":
    main()
