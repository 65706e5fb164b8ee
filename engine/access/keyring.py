"""The secrets that sign tokens: one, or several with key ids, so that a new one can replace an old one.

They come from the environment or, if it names none, from files in the data directory that only their owner may read.
A process reads them once, at its start. So a withdrawn secret, and the tokens that were verified with it, are forgotten
when the process ends.
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
"""How many may be in force at once. A keyring that keeps growing would hold secrets that nobody guards."""
KEY_ID_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ - and not begin with a dot"
_KEY_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)
_FIRST_KEY_ID = "0"
"""It sorts before all key ids that are times."""
_FILE_BYTES_MAX = 4_096
_MODES = (0o600, 0o400, 0o440)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret. ``key_id`` None: tokens signed with it name no key."""

    key_id: str | None
    value: bytes = field(repr=False)


class Keyring:
    """All secrets in force. The first one signs. Each one verifies the tokens that name it."""

    def __init__(self, in_force: Iterable[Secret]) -> None:
        """Takes at least one secret. Every key id must be unique."""
        self.secrets = tuple(in_force)
        first: dict[str | None, bytes] = {None: self.secrets[0].value}
        self._values = first | {secret.key_id: secret.value for secret in self.secrets}

    @property
    def unnamed(self) -> bytes:
        """The secret that verifies tokens without a key id."""
        return self._values[None]

    def named(self, key_id: str | None) -> Secret:
        """The secret with this key id (None: the one that signs). Raises OperatorError if there is none."""
        for secret in self.secrets:
            if key_id in (None, secret.key_id):
                return secret
        known = ", ".join(secret.key_id for secret in self.secrets if secret.key_id) or "none"
        raise OperatorError(f"No secret has the key id {key_id!r}; those in force: {known}.")

    def verifying(self, key_id: str | None) -> bytes | None:
        """The secret that verifies tokens with this key id (None: without one). Returns None if there is none."""
        return self._values.get(key_id)


def load(settings: Settings) -> Keyring:
    """The secrets in force. The first one signs.

    From the environment: HONGBAO_AUTH_SECRETS (``id:secret,id:secret``), then HONGBAO_AUTH_SECRET, which has no key id.
    If it names none, from the data directory: the files in ``auth-secrets``, whose names are the key ids. The last name
    comes first. If there is no file, one is created. A token without a key id is verified with the secret without one
    or, if each has one, with the secret that signs.

    Raises OperatorError if one is too short, readable by others, or cannot be read or created.
    """
    found = _from_environment(settings) or _from_files(settings.data_dir)
    if len(found) > SECRETS_MAX:
        raise OperatorError(f"{len(found)} secrets are configured, the maximum is {SECRETS_MAX}: remove the oldest.")
    return Keyring(found)


def is_given(settings: Settings) -> bool:
    """Whether there is a secret, so that ``load`` would not create one."""
    given = settings.auth_secret is not None or settings.auth_secrets is not None
    return given or bool(_files(settings.data_dir))


def add(settings: Settings) -> Secret:
    """Create a new secret in the data directory. It signs from now on, and the others stay in force.

    Its key id is the time, so that it sorts last. Raises OperatorError if secrets in the environment would hide it, or
    if it cannot be created.
    """
    if settings.auth_secret is not None or settings.auth_secrets is not None:
        raise OperatorError(
            "The secrets come from the environment: put a new pair first in HONGBAO_AUTH_SECRETS (id:secret,id:secret)."
        )
    return _make(_folder(settings.data_dir) / f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")


def _from_environment(settings: Settings) -> list[Secret]:
    found = []
    if settings.auth_secrets is not None:
        found = secrets_in(settings.auth_secrets.get_secret_value(), "HONGBAO_AUTH_SECRETS")
    if settings.auth_secret is not None:
        value = settings.auth_secret.get_secret_value().encode()
        found.append(Secret(None, _checked(value, "HONGBAO_AUTH_SECRET")))
    return found


def secrets_in(text: str, variable: str) -> list[Secret]:
    """The secrets in a variable of the form ``id:secret,id:secret``, each with its key id.

    Raises OperatorError. It names a pair by its place, because all of its text may be secret.
    """
    found: dict[str, Secret] = {}
    for place, pair in enumerate(text.split(","), start=1):
        name = f"Pair {place} of {variable}"
        key_id, colon, value = pair.strip().partition(":")
        if not colon:
            raise OperatorError(f"{name} has no colon: pairs are id:secret, with commas between them.")
        if _KEY_ID.fullmatch(key_id) is None:
            raise OperatorError(f"{name} has no valid key id: it {KEY_ID_RULE}.")
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
            raise OperatorError(f"The name of {path} is not a key id: it {KEY_ID_RULE}.")
    return [_read(path) for path in paths] or [_make(_folder(data_dir) / _FIRST_KEY_ID)]


def _folder(data_dir: Path) -> Path:
    return data_dir / "auth-secrets"


def _files(data_dir: Path) -> list[Path]:
    """The files of secrets, the last name first. Hidden files are incomplete, or belong to the mount."""
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
            f"The secret {path} has mode {mode:04o}, but it must be 0600, 0400 or 0440: chmod 600 it "
            "(of a volume in Kubernetes, set defaultMode: 0400, or 0440 with an fsGroup)."
        )
    return Secret(path.name, _checked(value, f"The secret in {path}"))


def _checked(secret: bytes, name: str) -> bytes:
    if len(secret) < SECRET_BYTES_MIN:
        raise OperatorError(f"{name} has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}.")
    try:
        jwt.encode({}, secret, algorithm=ALGORITHM)
    except jwt.InvalidKeyError:  # one key of a key pair is public, and PyJWT refuses both
        raise OperatorError(f"{name} is a key or a certificate of another kind; it must be a random text.") from None
    return secret


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn the block's OSError into one sentence."""
    try:
        yield
    except OSError as error:
        raise OperatorError(f"The secret {path} cannot be read or made: {error.strerror or error}.") from None


def _make(path: Path) -> Secret:
    """Write a complete secret (mode 0600), then name it unless the name is taken: the first of several starts wins."""
    with _usable(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-") as file:  # made with mode 0600
            file.write(secrets.token_hex(SECRET_BYTES_MIN).encode())
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(file.name, path)
    return _read(path)
