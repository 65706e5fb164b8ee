"""A client for Hongbao: ``Client`` and ``AsyncClient``, the models of what is sent and answered, and the errors."""

from hongbao_client.asynchronous import AsyncClient
from hongbao_client.errors import (
    AnsweredError,
    HongbaoError,
    NoAnswerError,
    NotAllowedError,
    NotFoundError,
    NotYetError,
    RefusedError,
    TokenError,
    UnavailableError,
    UndecidedError,
    UnreadableAnswerError,
    UserMustActError,
    WrongRequestError,
)
from hongbao_client.retries import NEVER, Retries
from hongbao_client.sync import Client
from hongbao_client.tokens import AsyncTokenProvider, Signer, TokenProvider

__all__ = [
    "NEVER",
    "AnsweredError",
    "AsyncClient",
    "AsyncTokenProvider",
    "Client",
    "HongbaoError",
    "NoAnswerError",
    "NotAllowedError",
    "NotFoundError",
    "NotYetError",
    "RefusedError",
    "Retries",
    "Signer",
    "TokenError",
    "TokenProvider",
    "UnavailableError",
    "UndecidedError",
    "UnreadableAnswerError",
    "UserMustActError",
    "WrongRequestError",
]
