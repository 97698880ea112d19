"""`python -m opsportal.stack run | status | with-database -- COMMAND... | with-services -- COMMAND...`"""

import sys

from opsportal.stack import StackError
from opsportal.stack.services import run_with_services

USAGE = """Usage: python -m opsportal.stack COMMAND
  run                       start everything and keep it running (PORT, HOST, DATA_DIR)
  status                    what runs on DATA_DIR
  with-database -- CMD...   run CMD beside the portal's own database server, with the portal stopped
  with-services -- CMD...   run CMD with throwaway servers"""


def say(text: str) -> None:
    """Print a line for a person; a closed terminal is no reason to die."""
    try:
        print(text, flush=True)
    except OSError:
        pass


def main(argv: list[str]) -> int:
    """Exit code of the chosen command."""
    try:
        match argv:
            case ["run"]:
                from opsportal.stack.portal import run

                return run(say)
            case ["status"]:
                from opsportal.stack.portal import status

                return status(say)
            case ["with-database", "--", *command] if command:
                from opsportal.stack.database import run_with_database

                return run_with_database(command, say)
            case ["with-services", "--", *command] if command:
                return run_with_services(command, lambda text: print(text, file=sys.stderr, flush=True))
    except StackError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
