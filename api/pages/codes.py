"""QR codes of pages' addresses, as SVG. They never hold a token: whoever scans one is asked who they are."""

import io
from functools import lru_cache

import segno

_REMEMBERED_MAX = 1_000
_MASK = 3
"""Fixed: trying all eight takes 5 ms, in which this process answers nobody. Every mask can be read by every scanner."""


@lru_cache(_REMEMBERED_MAX)
def qr_svg(address: str) -> bytes:
    """The code of an address, dark on white with the border that scanners need."""
    file = io.BytesIO()
    segno.make_qr(address, error="m", mask=_MASK).save(
        file, kind="svg", xmldecl=False, svgns=True, omitsize=True, dark="#000", light="#fff", border=4
    )
    return file.getvalue()
