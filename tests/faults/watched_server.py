"""`tallygate` as it is, but that it ends with the test run that started it, whatever ends that."""

import os
import signal

from service.cli import main
from service.kit.parent import end_with_parent


def run_watched() -> None:
    end_with_parent(signal.SIGTERM, int(os.environ["TEST_RUN_PID"]))
    main()


if __name__ == "__main__":
    run_watched()
