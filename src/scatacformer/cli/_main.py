"""Arguments in, exit code out.

0: success. 1: unexpected error, with a traceback. 2: invalid usage or input, with one line that says what to do.
130: stopped by Ctrl-C; 143: ended by SIGTERM. Files that were written are complete, and no incomplete files remain.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from ._errors import NO_ROOM, InputError
from ._messages import messages_on_stderr
from ._parser import build_parser
from ._signals import INTERRUPTED, TERMINATED, Terminated, sigterm_raises, status_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit code."""
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:  # --help, --version, or invalid usage: already reported by argparse
        return int(end.code or 0)
    try:
        with messages_on_stderr(quiet=args.quiet), sigterm_raises():
            args.run(args)
    except InputError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("stopped by Ctrl-C")
        return INTERRUPTED
    except Terminated:
        _say("ended by SIGTERM")
        return TERMINATED
    except SystemExit as end:  # from a training, which has reported the reason
        if (status := status_of(end)) == INTERRUPTED:
            _say("stopped by Ctrl-C")
        return status
    except OSError as error:
        if error.errno not in NO_ROOM:  # then a traceback does not help
            traceback.print_exc()
        _say(f"error: {error}")
        return 1
    except Exception as error:  # noqa: BLE001 the last resort; its traceback is printed
        traceback.print_exc()
        _say(f"unexpected error: {type(error).__name__}: {error}")
        return 1
    return 0


def _say(text: str) -> None:
    print(f"scatacformer: {text}", file=sys.stderr, flush=True)
