"""`hongbao` for a shell: has the process forked that ``tests/support/warm.py`` keeps, and ends as it ends.

Words: the descriptor of the socket, which is inherited, and the command's own. It imports as little as can be.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Hand over words, environment, folder and standard streams, and wait."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    told, tell = os.pipe()
    request = {"words": ["hongbao", *sys.argv[2:]], "env": dict(os.environ), "folder": os.getcwd()}
    socket.send_fds(requests, [json.dumps(request).encode()], [1, 2, tell, 0])
    os.close(tell)
    with open(told, encoding="ascii") as answers:
        _, code = answers.read().split()
    if int(code) < 0:
        os.kill(os.getpid(), -int(code))
        signal.pause()
    os._exit(int(code))


if __name__ == "__main__":
    main()
