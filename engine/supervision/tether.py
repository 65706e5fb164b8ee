"""Run a program that does not outlive its parent. Executed as a file, never imported:

``python tether.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENT...`` (UID and GID ``-``: unchanged).

A separate step between fork and exec, because code in a forked child of a threaded Python process is not safe, and
because Linux forgets the death signal when the user id changes: it has to be set after that and before the exec. Where
there is no such signal (macOS) an orphan is found and stopped by the next start on its data directory.
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
    # Who started this held it back: Python only notes a SIGINT, and notes are lost in exec.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.execv(argv[0], argv)  # noqa: S606  # the whole purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
