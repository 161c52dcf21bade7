"""``hindsight`` as a process that ends with the one which started it, however that ended.

    python -m hindsight_rl.cli.led fit --config bc ...

Its standard input is a pipe that the other one holds open. Once that is closed, the command is
asked to end as by SIGTERM: ``fit`` saves its last checkpoint.
"""

import os
import signal
import sys
import threading

from hindsight_rl.cli.main import main


def _follow() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_follow, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
