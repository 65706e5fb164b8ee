"""Print which peers can run here. ``--install`` first installs what they need."""

import sys

from benchmarks.peers import availability


def main(arguments: list[str]) -> int:
    """Print one line per peer. Returns 1 if one cannot run."""
    if "--install" in arguments:
        for problem in availability.install():
            print(problem)
    found = [availability.check(peer) for peer in availability.PEERS]
    for peer in found:
        print(f"{peer.peer:<10} {peer.missing or 'can be run'}")
    return int(any(peer.missing for peer in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
