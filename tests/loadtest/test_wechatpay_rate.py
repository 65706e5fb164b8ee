"""`python -m loadtest.wechatpay`, short: it measures, and what it says of the books is so."""

import pytest

from loadtest.wechatpay.__main__ import OUT_OF_REACH, main


@pytest.mark.long
def test_it_measures_and_the_books_are_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**OUT_OF_REACH, "HONGBAO_WECHATPAY_KEYS": "test:" + "k" * 32}.items():
        monkeypatch.setenv(name, value)  # it sets them for its process, which is this one
    assert main(["--seconds", "2", "--warm-up-seconds", "0", "--connections", "8"]) == 0
    printed = capsys.readouterr().out
    assert "sendredpack per second from 8 connections" in printed
    assert "CPU ms per call: " in printed
    assert all(part in printed for part in ("client", "postgres", "redis", "serve"))
    assert "every order has its packet, and the audit is clean" in printed
