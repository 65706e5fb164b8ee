"""Run a program that does not outlive its parent. Executed as a file, never imported:

``python tether.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENT...`` (UID and GID ``-``: unchanged).

This is a separate step between fork and exec for two reasons. Code in a forked child of a threaded Python process is
not safe. And Linux forgets the death signal when the user id changes, so it must be set between that and the exec.
Without such a signal (macOS), the next start on the data directory finds and stops an orphan.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent_pid: int, death_signal: int, uid: str, gid: str, argv: list[str]) -> None:
    """Drop privileges, tie this process to its parent, become the program."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded while root can still read it
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the line above
        sys.exit(1)
    for changed_by_python in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(changed_by_python, signal.SIG_DFL)
    # The parent has blocked SIGINT, because Python only records one, and the record is lost in exec.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.execv(argv[0], argv)  # noqa: S606  # the whole purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
