"""What a client is made with: an address, a user, a secret. What is none is refused before anything is sent."""

import pytest
from hongbao_client import Client, Signer


def test_a_client_says_what_is_no_address_and_no_user() -> None:
    for wrong in ("localhost:8080", "ftp://x", "http://", "http://x/?a=b"):
        with pytest.raises(ValueError, match="URL"):
            Client(wrong)
    with Client("http://127.0.0.1:1/") as client:
        for user in ("", "红包", "a b", "a\nX-User-Id: root"):
            with pytest.raises(ValueError, match="user id"):
                client.acting_for(user)


def test_a_signer_does_not_show_its_secret() -> None:
    assert "hush" not in repr(Signer(secret="hush"))
