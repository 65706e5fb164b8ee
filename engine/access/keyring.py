"""The secrets tokens are signed with: one, or several at once by key id, so that one can take another's place.

They come from the environment or, when it names none, from files of the data directory that only their owner may read.
A process reads them once, when it starts: a secret that was withdrawn is forgotten with the process that knew it, and
so is every token of it that this process remembered.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

import jwt

from engine.errors import OperatorError
from engine.settings import Settings

ALGORITHM = "HS256"
SECRET_BYTES_MIN = 32
SECRETS_MAX = 16
"""How many may be in force at once: a keyring that grows for ever has secrets in it that nobody guards."""
KEY_ID_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ - and not begin with a dot"
_KEY_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)
_FIRST_KEY_ID = "0"
"""It sorts before those that are times."""
_FILE_BYTES_MAX = 4_096
_MODES = (0o600, 0o400, 0o440)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret. ``key_id`` None: tokens signed with it name no key."""

    key_id: str | None
    value: bytes = field(repr=False)


class Keyring:
    """All secrets in force. The first signs, each verifies the tokens that name it."""

    def __init__(self, in_force: Iterable[Secret]) -> None:
        """There is at least one secret, and no key id stands for two."""
        self.secrets = tuple(in_force)
        first: dict[str | None, bytes] = {None: self.secrets[0].value}
        self._values = first | {secret.key_id: secret.value for secret in self.secrets}

    @property
    def unnamed(self) -> bytes:
        """What verifies tokens that name no key."""
        return self._values[None]

    def named(self, key_id: str | None) -> Secret:
        """The secret to sign with; None: the one that signs. Raises OperatorError when no secret has this key id."""
        for secret in self.secrets:
            if key_id in (None, secret.key_id):
                return secret
        known = ", ".join(secret.key_id for secret in self.secrets if secret.key_id) or "none"
        raise OperatorError(f"No secret has the key id {key_id!r}; those in force: {known}.")

    def verifying(self, key_id: str | None) -> bytes | None:
        """What verifies a token that names this key, None if nothing does; None as the key: that names none."""
        return self._values.get(key_id)


def load(settings: Settings) -> Keyring:
    """The secrets in force, the one that signs first.

    From the environment: HONGBAO_AUTH_SECRETS (``id:secret,id:secret``), then HONGBAO_AUTH_SECRET, which has no key id.
    If it names none, from the data directory: the files in ``auth-secrets``, named by their key ids, the last name
    first; the first one is made if there is none. A token that names no key is verified with the secret that has no key
    id or, if each has one, with the one that signs.

    Raises OperatorError when one is too short, may be read by others, or cannot be read or made.
    """
    found = _from_environment(settings) or _from_files(settings.data_dir)
    if len(found) > SECRETS_MAX:
        raise OperatorError(f"{len(found)} secrets are configured, the maximum is {SECRETS_MAX}: remove the oldest.")
    return Keyring(found)


def is_given(settings: Settings) -> bool:
    """Whether there is a secret, so that ``load`` would not make one."""
    given = settings.auth_secret is not None or settings.auth_secrets is not None
    return given or bool(_files(settings.data_dir))


def add(settings: Settings) -> Secret:
    """Make a new secret in the data directory, which signs from now on. Those in force stay so.

    Its key id is the time, so that it sorts last. Raises OperatorError when the environment's secrets would hide it,
    or it cannot be made.
    """
    if settings.auth_secret is not None or settings.auth_secrets is not None:
        raise OperatorError(
            "The secrets are the environment's: put a new pair first in HONGBAO_AUTH_SECRETS (id:secret,id:secret)."
        )
    return _make(_folder(settings.data_dir) / f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")


def _from_environment(settings: Settings) -> list[Secret]:
    found = [] if settings.auth_secrets is None else _pairs(settings.auth_secrets.get_secret_value())
    if settings.auth_secret is not None:
        value = settings.auth_secret.get_secret_value().encode()
        found.append(Secret(None, _checked(value, "HONGBAO_AUTH_SECRET")))
    return found


def _pairs(text: str) -> list[Secret]:
    """What HONGBAO_AUTH_SECRETS holds. A pair is spoken of by its place: what it holds may be a secret as a whole."""
    found: dict[str, Secret] = {}
    for place, pair in enumerate(text.split(","), start=1):
        name = f"Pair {place} of HONGBAO_AUTH_SECRETS"
        key_id, colon, value = pair.strip().partition(":")
        if not colon:
            raise OperatorError(f"{name} has no colon: pairs are id:secret, with commas between them.")
        if _KEY_ID.fullmatch(key_id) is None:
            raise OperatorError(f"{name} has no proper key id: it {KEY_ID_RULE}.")
        if key_id in found:
            raise OperatorError(f"{name} has the key id of another pair.")
        found[key_id] = Secret(key_id, _checked(value.encode(), name))
    return list(found.values())


def _from_files(data_dir: Path) -> list[Secret]:
    earlier = data_dir / "auth-secret"
    with _usable(_folder(data_dir)):
        paths = _files(data_dir)
        if earlier.exists():
            raise OperatorError(
                f"The secret {earlier} is where earlier releases kept it: "
                f"mkdir -p {_folder(data_dir)} and mv it there, under the name {_FIRST_KEY_ID}."
            )
    for path in paths:
        if _KEY_ID.fullmatch(path.name) is None:
            raise OperatorError(f"The name of {path} is no key id: it {KEY_ID_RULE}.")
    return [_read(path) for path in paths] or [_make(_folder(data_dir) / _FIRST_KEY_ID)]


def _folder(data_dir: Path) -> Path:
    return data_dir / "auth-secrets"


def _files(data_dir: Path) -> list[Path]:
    """The secrets with key ids, the last name first. Hidden files are half-written ones, or a mount's own."""
    folder = _folder(data_dir)
    if not folder.exists():
        return []
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), reverse=True)


def _read(path: Path) -> Secret:
    with _usable(path), path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        value = file.read(_FILE_BYTES_MAX).strip()
    if mode not in _MODES:
        raise OperatorError(
            f"The secret {path} has mode {mode:04o}, but only 0600, 0400 or 0440 will do: chmod 600 it "
            "(of a volume in Kubernetes, set defaultMode: 0400, or 0440 with an fsGroup)."
        )
    return Secret(path.name, _checked(value, f"The secret in {path}"))


def _checked(secret: bytes, name: str) -> bytes:
    if len(secret) < SECRET_BYTES_MIN:
        raise OperatorError(f"{name} has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}.")
    try:
        jwt.encode({}, secret, algorithm=ALGORITHM)
    except jwt.InvalidKeyError:  # half of a pair of keys is public, and PyJWT refuses either half
        raise OperatorError(f"{name} is a key or a certificate of another kind; it must be a random text.") from None
    return secret


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into one sentence."""
    try:
        yield
    except OSError as error:
        raise OperatorError(f"The secret {path} cannot be read or made: {error.strerror or error}.") from None


def _make(path: Path) -> Secret:
    """Write a secret whole (mode 0600) and give it its name only if no one has: the first of several starts wins."""
    with _usable(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-") as file:  # made with mode 0600
            file.write(secrets.token_hex(SECRET_BYTES_MIN).encode())
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(file.name, path)
    return _read(path)
