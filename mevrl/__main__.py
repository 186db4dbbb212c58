"""The command line: `mevrl COMMAND [ARGUMENTS]`, or `python -m mevrl COMMAND [ARGUMENTS]`."""

import sys
from collections.abc import Sequence

from mevrl.commands import COMMANDS, __version__, run


def usage() -> str:
    """What `mevrl --help` prints."""
    width = max(map(len, COMMANDS))
    lines = ["usage: mevrl COMMAND [ARGUMENTS]", "", "commands:"]
    lines += [f"  {name:<{width}}  {command.does}" for name, command in COMMANDS.items()]
    lines += ["", "mevrl COMMAND --help lists the arguments of a command; mevrl --version"]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 2 with a message for one that does not exist."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if given else 2
    name, *rest = given
    if name in ("-V", "--version"):
        print(f"mevrl {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"mevrl: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    return run(name, rest)


if __name__ == "__main__":
    sys.exit(main())
