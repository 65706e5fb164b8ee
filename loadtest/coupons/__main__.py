"""``python -m loadtest.coupons``: a drop of 1,000,000 uploaded codes on servers of its own.

Exits 0 only if each code was shown to one user, each coupon that was fought over ended once, Redis shows no code, and
the audit is clean.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from engine.engine import Engine
from engine.observability.terminal import print_anything
from engine.running import reach
from engine.settings import Settings
from loadtest.coupons.drop import Sizes, WrongError, play
from loadtest.running import NotStartedError, running


def main(words: list[str]) -> int:
    """Play it and return the exit code."""
    print_anything()
    parser = argparse.ArgumentParser(prog="python -m loadtest.coupons", description="A drop of uploaded codes.")
    parser.add_argument("--codes", type=int, default=1_000_000, help="how many (default: 1000000)")
    parser.add_argument("--packets", type=int, default=20, help="in how many packets (default: 20)")
    parser.add_argument("--redeemed", type=int, default=20_000, help="how many are fought over (default: 20000)")
    given = parser.parse_args(words)
    sizes = Sizes(codes=given.codes, packets=given.packets, redeemed=min(given.redeemed, given.codes))
    os.environ.setdefault("HONGBAO_COUPON_KEYS", f"drop:{secrets.token_hex(32)}")
    os.environ.setdefault("HONGBAO_DATABASE_POOL_MAX", "16")
    os.environ.setdefault("HONGBAO_DATABASE_TIMEOUT_S", "300")  # the audit reads all of it at once
    os.environ.setdefault("HONGBAO_CLAIM_WAIT_MS_MAX", "60000")  # a batch is a thousand claims at once
    try:
        with running(workers=1) as engine, tempfile.TemporaryDirectory() as folder:
            settings = reach.running(Settings.load(data_dir=engine.data_dir))
            return asyncio.run(_play(settings, sizes, Path(folder)))
    except NotStartedError as error:
        print(f"The engine did not start: {error}")
        return 1


async def _play(settings: Settings, sizes: Sizes, folder: Path) -> int:
    started_s = time.monotonic()
    async with Engine.open(settings) as engine:
        try:
            await play(engine, sizes, folder, partial(print, flush=True))
        except WrongError as error:
            print(f"FAILED {error}")
            return 1
    print(f"The whole took {time.monotonic() - started_s:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
