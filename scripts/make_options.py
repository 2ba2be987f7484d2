"""Write what is generated from the catalogue of options: docs/options.md and aloll_cli/cli/completion.json."""

from pathlib import Path

from aloll_cli.cli.reference import completion_table, options_page

ROOT = Path(__file__).parents[1]
FILES = {"docs/options.md": options_page, "aloll_cli/cli/completion.json": completion_table}


def main() -> None:
    for name, make in FILES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
