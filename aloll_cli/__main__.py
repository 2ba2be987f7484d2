"""``python -m aloll_cli`` is the command ``aloll``."""

from aloll_cli.cli.main import main

if __name__ == "__main__":
    main()
