"""Runs a program that cannot outlive its supervisor: `python guard.py SUPERVISOR_PID PROGRAM [ARGUMENT...]`.

On Linux the kernel is asked to kill this process when its parent ends, however that ends (prctl(2), PR_SET_PDEATHSIG),
and then the program takes the process over; the request survives execve(2). A `preexec_fn` would do the same between
fork and exec, where Python code is unsafe once there are threads, and the supervisor has gRPC's. Elsewhere the program
runs without this protection. It imports only what it needs: about 10 ms.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    import ctypes

    # SIGKILL, not SIGTERM: once the supervisor is gone, nobody could press a process that hangs while it drains.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def main(arguments: list[str]) -> None:
    """Protects, then becomes the program. Ends with 127 when it cannot be run, as a shell does."""
    supervisor, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        _die_with_parent()
        if os.getppid() != supervisor:  # it ended before the kernel was asked
            raise SystemExit(1)
    try:
        os.execvp(program[0], program)  # noqa: S606 -- replacing this process without a shell is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot run {program[0]}: {error.strerror}\n")
        raise SystemExit(127) from None


if __name__ == "__main__":
    main(sys.argv[1:])
