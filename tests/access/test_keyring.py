"""The secrets tokens are signed with: where they come from, which signs, and who may read their files."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.access import keyring
from engine.access.keyring import SECRETS_MAX
from engine.access.tokens import Verifier, issue_by, load_secret
from engine.errors import InvalidTokenError, OperatorError
from engine.settings import Settings


def made_settings(data_dir: Path, secret: str | None = None, secrets: str | None = None, **more: int) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, "auth_secret": secret, "auth_secrets": secrets, **more})


def put(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def ids(settings: Settings) -> list[str | None]:
    return [secret.key_id for secret in keyring.load(settings).secrets]


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    settings = made_settings(tmp_path / "new" / "data")
    assert not keyring.is_given(settings)
    secret = load_secret(settings)
    path = settings.data_dir / "auth-secrets" / "0"
    assert keyring.is_given(settings)
    assert load_secret(settings) == secret
    assert len(secret) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in settings.data_dir.rglob("*")] == ["auth-secrets", "0"]


def test_many_first_starts_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    settings = made_settings(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: load_secret(settings), range(64)))
    assert len(secrets) == 1


def test_the_environments_secrets_come_first_and_no_file_is_read(tmp_path: Path) -> None:
    put(tmp_path / "auth-secrets" / "file", "f" * 32)
    assert load_secret(made_settings(tmp_path, "e" * 32)) == b"e" * 32
    pairs = f"new:{'n:' * 16}, old:{'o' * 32}"
    assert ids(made_settings(tmp_path, secrets=pairs)) == ["new", "old"]
    both = keyring.load(made_settings(tmp_path, "e" * 32, pairs))
    assert [secret.key_id for secret in both.secrets] == ["new", "old", None]
    assert (both.secrets[0].value, both.unnamed) == (b"n:" * 16, b"e" * 32)
    assert [path.name for path in (tmp_path / "auth-secrets").iterdir()] == ["file"]


def test_of_files_the_last_name_signs_and_all_verify(tmp_path: Path) -> None:
    settings = made_settings(tmp_path)
    before = issue_by(settings, "alice", [], 60).encode()
    put(tmp_path / "auth-secrets" / "2026-11", "a" * 40 + "\n")
    put(tmp_path / "auth-secrets" / "2026-12", "b" * 40, mode=0o400)
    put(tmp_path / "auth-secrets" / ".half-written", "")
    assert ids(settings) == ["2026-12", "2026-11", "0"]
    assert keyring.load(settings).secrets[0].value == b"b" * 40
    tokens = {key_id: issue_by(settings, "alice", [], 60, key_id).encode() for key_id in (None, "2026-11")}
    verifier = Verifier(keyring.load(settings))
    assert all(verifier.verify(token).user_id == "alice" for token in (before, *tokens.values()))

    (tmp_path / "auth-secrets" / "2026-11").unlink()
    (tmp_path / "auth-secrets" / "0").unlink()
    restarted = Verifier(keyring.load(settings))
    assert restarted.verify(tokens[None]).user_id == "alice"
    for token in (before, tokens["2026-11"]):
        assert restarted.remembered(token) is None
        with pytest.raises(InvalidTokenError):
            restarted.verify(token)
    assert not (tmp_path / "auth-secrets" / "0").exists()


def test_a_new_secret_signs_and_the_old_ones_verify(tmp_path: Path) -> None:
    settings = made_settings(tmp_path / "data")
    old = issue_by(settings, "alice", [], 60).encode()
    first = keyring.add(settings)
    second = keyring.add(settings)
    assert ids(settings) == [second.key_id, first.key_id, "0"]
    verifier = Verifier(keyring.load(settings))
    for token in (old, issue_by(settings, "alice", [], 60, first.key_id).encode()):
        assert verifier.verify(token).user_id == "alice"
    paths = list((settings.data_dir / "auth-secrets").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert stat.S_IMODE((settings.data_dir / "auth-secrets").stat().st_mode) == 0o700
    assert len({path.read_bytes() for path in paths}) == len(paths) == 3


def test_a_new_secret_is_not_made_where_the_environments_would_hide_it(tmp_path: Path) -> None:
    for settings in (made_settings(tmp_path, "e" * 32), made_settings(tmp_path, secrets=f"a:{'e' * 32}")):
        with pytest.raises(OperatorError, match="HONGBAO_AUTH_SECRETS"):
            keyring.add(settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700, 0o777])
def test_a_secret_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    put(tmp_path / "auth-secrets" / "2026", "s" * 64, mode)
    with pytest.raises(OperatorError, match=rf"2026 has mode {mode:04o}.*chmod 600.*defaultMode") as refused:
        keyring.load(made_settings(tmp_path))
    assert "sss" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_a_secret_that_is_mounted_for_its_owner_or_a_group_is_taken(tmp_path: Path, mode: int) -> None:
    put(tmp_path / "auth-secrets" / "2026", "s" * 64, mode)
    assert ids(made_settings(tmp_path)) == ["2026"]


def test_where_an_earlier_release_kept_its_secret_it_is_not_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "auth-secret", "s" * 64)
    with pytest.raises(OperatorError, match=r"auth-secret is where earlier releases kept it: mkdir -p .*auth-secrets "):
        keyring.load(made_settings(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["auth-secret"]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ("q" * 32, "Pair 1 of HONGBAO_AUTH_SECRETS has no colon"),
        (f"a:{'q' * 32},", "Pair 2 of HONGBAO_AUTH_SECRETS has no colon"),
        (f":{'q' * 32}", "Pair 1 of HONGBAO_AUTH_SECRETS has no valid key id"),
        (f"a b:{'q' * 32}", "no valid key id"),
        (f"{'q' * 65}:{'q' * 32}", "no valid key id"),
        (f"a:{'q' * 32},a:{'q' * 33}", "Pair 2 of HONGBAO_AUTH_SECRETS has the key id of another"),
        (f"a:{'q' * 32},b:{'q' * 31}", "Pair 2 of HONGBAO_AUTH_SECRETS has 31 bytes"),
        (",".join(f"k{number}:{'q' * 32}" for number in range(SECRETS_MAX + 1)), "17 secrets are configured"),
    ],
)
def test_pairs_that_cannot_be_are_named_by_their_place(tmp_path: Path, pairs: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said) as refused:
        keyring.load(made_settings(tmp_path, secrets=pairs))
    assert "qq" not in str(refused.value)


def test_a_short_secret_is_refused_without_being_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"HONGBAO_AUTH_SECRET has 31 bytes") as refused:
        load_secret(made_settings(tmp_path, "q" * 31))
    assert "qq" not in str(refused.value)
    put(tmp_path / "auth-secrets" / "a", "short\n")
    with pytest.raises(OperatorError, match=r"auth-secrets/a has 5 bytes"):
        load_secret(made_settings(tmp_path))


@pytest.mark.parametrize("half", ["public", "private"])
def test_half_of_a_pair_of_keys_is_no_secret(tmp_path: Path, half: str) -> None:
    pem = f"-----BEGIN {half.upper()} KEY-----\n{'q' * 64}\n-----END {half.upper()} KEY-----\n"
    put(tmp_path / "auth-secrets" / "a", pem)
    with pytest.raises(OperatorError, match="must be a random text") as refused:
        keyring.load(made_settings(tmp_path))
    assert "qq" not in str(refused.value)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OperatorError, match=r"auth-secrets/0 cannot be read or made: "):
        load_secret(made_settings(tmp_path / "file"))
    put(tmp_path / "a" / "auth-secrets", "")
    with pytest.raises(OperatorError, match=f"auth-secrets cannot be read or made: {os.strerror(errno.ENOTDIR)}"):
        load_secret(made_settings(tmp_path / "a"))
    put(tmp_path / "auth-secrets" / "a~", "s" * 64)
    with pytest.raises(OperatorError, match=r"a~ is not a key id"):
        load_secret(made_settings(tmp_path))


def test_what_its_servers_would_refuse_is_not_issued(tmp_path: Path) -> None:
    settings = made_settings(tmp_path, token_ttl_s_max=100)
    assert issue_by(settings, "alice", [], 100)
    with pytest.raises(OperatorError, match="at most 100 seconds"):
        issue_by(settings, "alice", [], 101)
    with pytest.raises(OperatorError, match="No secret has the key id 'x'; those in force: 0"):
        issue_by(settings, "alice", [], 60, "x")


def test_a_secret_is_not_shown_by_what_holds_it(tmp_path: Path) -> None:
    ring = keyring.load(made_settings(tmp_path, "e" * 32, f"a:{'s' * 32}"))
    settings = made_settings(tmp_path, "e" * 32, f"a:{'s' * 32}")
    for shown in (repr(ring), repr(ring.secrets), str(ring.secrets[0]), repr(settings), settings.model_dump_json()):
        assert "eee" not in shown
        assert "sss" not in shown
