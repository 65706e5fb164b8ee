"""`hongbao link`: a page's address with a user's token, for those who try the page."""

from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from engine.access.keyring import load
from engine.access.tokens import Verifier
from engine.settings import Settings
from tests.support.asking import UNKNOWN
from tests.support.commands import hongbao

pytestmark = pytest.mark.long


def test_an_address_has_a_page_and_a_token_of_the_user(tmp_path: Path) -> None:
    made = hongbao("link", "--packet", UNKNOWN, "--user", "alice", "--data-dir", tmp_path)
    assert made.returncode == 0, made.stderr
    parts = urlsplit(made.stdout.strip())
    assert (parts.scheme, parts.netloc, parts.path, parts.query) == ("http", "127.0.0.1:8080", f"/p/{UNKNOWN}", "")
    verifier = Verifier(load(Settings(data_dir=tmp_path, auth_secret=None)), leeway_s=0, ttl_s_max=86_400)
    claims = verifier.verify(parts.fragment.removeprefix("t=").encode())
    assert (claims.user_id, claims.scopes) == ("alice", frozenset({"claim"}))
    assert "HONGBAO_HOST=0.0.0.0" in made.stderr


def test_it_is_of_a_campaign_at_another_address_as_json_or_as_a_code(tmp_path: Path) -> None:
    shared = ("--campaign", "7", "--user", "bob", "--url", "https://hongbao.example.org", "--data-dir", tmp_path)
    told = orjson.loads(hongbao("link", *shared, "--ttl-s", "60", "--json").stdout)
    assert told["address"].startswith("https://hongbao.example.org/c/7#t=")
    assert (told["user"], told["ttl_s"]) == ("bob", 60)
    drawn = hongbao("link", *shared, "--qr")
    assert drawn.stderr == ""
    assert len(drawn.stdout.splitlines()) > 20


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "Name one page"),
        (("--packet", UNKNOWN, "--campaign", "1"), "Name one page"),
        (("--packet", "12"), "must have 19 digits"),
        (("--campaign", "x"), "must be a whole number"),
        (("--campaign", "1", "--url", "shop"), "HONGBAO_PUBLIC_URL cannot be used"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    refused = hongbao("link", "--user", "alice", "--data-dir", tmp_path, *words)
    assert refused.returncode == 1
    assert why in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
