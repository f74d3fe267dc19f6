"""`python -m fluidpy.quickstart`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType

from fluidpy.errors import FluidpyError
from fluidpy.testing.servers.process_group import ServerStartError


def main() -> int:
    """Runs it and returns an exit code; an interrupt cleans up like any other end."""
    interrupts: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    begin = time.monotonic()
    try:
        from fluidpy.quickstart.walkthrough import run

        run()
        if interrupts:  # it came in a destructor, say, from which Python raises nothing
            raise KeyboardInterrupt
    except ModuleNotFoundError as error:
        print(f"quickstart: {error.name} is not installed", file=sys.stderr)
        print("cure: pip install 'fluidpy[quickstart]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nquickstart: interrupted; everything is removed again", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        print(f"quickstart: {' '.join(error.cmd[2:])} failed", file=sys.stderr)
        return 1
    except FluidpyError as error:
        print(f"quickstart: {error.message}\ncure: {error.cure}", file=sys.stderr)
        return 1
    except ServerStartError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    print(f"Done in {time.monotonic() - begin:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
