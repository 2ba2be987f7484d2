"""The flags of every stage, each declared once, for the parser, help and shell completion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        names: how it may be written.
        what: what it does, as ``aloll STAGE --help`` says it.
        value: name of its value; "" for a switch.
        choices: the values that it may have; any if there are none.
    """

    names: tuple[str, ...]
    what: str
    value: str = ""
    choices: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """``-c, --cfg PART``."""
        return f"{', '.join(self.names)} {self.value}".rstrip()


FLAGS = (
    Flag(("-h", "--help"), "show the options of the stage"),
    Flag(("-m", "--multirun"), "run once for each combination of the values in OPTION=a,b"),
    Flag(("-q", "--quiet"), "show warnings, errors and results only"),
    Flag(("-v", "--verbose"), "show more details in the log"),
    Flag(
        ("-c", "--cfg"),
        "print the configuration and exit: job (ours), hydra (Hydra's own) or all",
        "PART",
        ("job", "hydra", "all"),
    ),
    Flag(("-p", "--package"), "with --cfg, print only this part, such as variant", "KEY"),
    Flag(("--resolve",), "with --cfg, print values in place of interpolations"),
    Flag(("-cd", "--config-dir"), "also read the YAML files in a folder of your own", "FOLDER"),
    Flag(("-cn", "--config-name"), "begin with another root file than config", "NAME"),
    Flag(("--hydra-help",), "show Hydra's own help"),
)
ALL = ("--help all", "show also the options of the stages before it")
