"""Reads the folder in which the processes of one machine share their metrics, without any of them taking part.

A scrape of an API process would cost it the time to add all of them up, each second. The console does it by itself.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import psutil
from prometheus_client.mmap_dict import MmapedDict

from api.console.live.counted import CALLS, NAMES, Counted, Place, places_of

_FILE = re.compile(r"(?:counter|histogram)_(\d+)\.db")
_STARTS = "hongbao_process_starts_total"
_API = "serve"
_FILES_MAX = 2_000
"""A folder with more is read in part: processes that came and went leave a file each."""


class FolderReader:
    """Adds up the counters of all processes that ever shared the folder, those that have ended as well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, Sequence[Place]] = {}

    def read(self) -> Counted | None:
        """The sums now. None if no API process is alive: nothing that moves can be seen then."""
        counted, is_alive = Counted(), False
        for path in sorted(self._folder.glob("*.db"))[:_FILES_MAX]:
            matched = _FILE.fullmatch(path.name)
            if matched is None or not _size(path):
                continue  # a process that was killed as it started leaves an empty file
            is_api = self._add(counted, path)
            is_alive = is_alive or (is_api and _is_alive(int(matched[1])))
        return counted if is_alive else None

    def _add(self, counted: Counted, path: Path) -> bool:
        """Add a file. Returns whether it is of an API process."""
        is_api = False
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            places = self._places.get(key)
            if places is None:
                places = self._places[key] = _places_in(key)
            for place in places:
                if place == _API:
                    is_api = True
                else:
                    counted.add(place, value)
        return is_api


def _places_in(key: str) -> Sequence[Place]:
    """A key of a file: ``[metric, sample, labels, help]``. Buckets in files are not cumulative."""
    _, name, labels, _ = json.loads(key)
    if name == _STARTS:
        return (_API,) if labels.get("process") == _API else ()
    return places_of(name, labels) if name in NAMES and name != CALLS else ()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_alive(pid: int) -> bool:
    """Whether the process has not ended. One that nobody has waited for has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
