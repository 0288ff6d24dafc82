"""From what botocore and aiohttp raise to the errors of KVFS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from botocore import exceptions as boto

from kvfs.backing.remote.retries import Throttled
from kvfs.errors import (
    AlreadyExists,
    Closed,
    Conflict,
    Corrupt,
    Exhausted,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)


class OutOfRange(Invalid):
    """The object ends before the range that was asked for."""


_CODES: dict[str, tuple[type[KVFSError], str]] = {
    "NoSuchBucket": (NotFound, "there is no such bucket: look at the url and the endpoint"),
    "NoSuchKey": (NotFound, "there is no such object"),
    "NoSuchUpload": (NotFound, "the upload is not known any more"),
    "AccessDenied": (PermissionDenied, "the credentials do not allow it"),
    "AllAccessDisabled": (PermissionDenied, "all access is disabled"),
    "InvalidAccessKeyId": (PermissionDenied, "the server does not know the access key"),
    "SignatureDoesNotMatch": (PermissionDenied, "the secret key is wrong"),
    "ExpiredToken": (PermissionDenied, "the credentials have expired: renew them"),
    "TokenRefreshRequired": (PermissionDenied, "the credentials have expired: renew them"),
    "InvalidToken": (PermissionDenied, "the session token is wrong"),
    "RequestTimeTooSkewed": (
        PermissionDenied,
        "the clock of this machine and that of the server differ: set it",
    ),
    "AuthorizationHeaderMalformed": (Invalid, "the region is wrong: set region"),
    "PermanentRedirect": (Invalid, "the bucket is in another region or at another endpoint"),
    "IllegalLocationConstraintException": (Invalid, "the region is wrong: set region"),
    "InvalidBucketName": (Invalid, "this is no name of a bucket"),
    "KeyTooLongError": (Unsupported, "the name is too long"),
    "EntityTooLarge": (Exhausted, "the object is larger than the server takes"),
    "QuotaExceeded": (Exhausted, "the quota is exhausted"),
    "XMinioStorageFull": (Exhausted, "the server has no room left"),
    "InvalidRange": (OutOfRange, "it ends before that"),
    "BadDigest": (Corrupt, "other bytes arrived than were sent"),
    "XAmzContentChecksumMismatch": (Corrupt, "other bytes arrived than were sent"),
    "PreconditionFailed": (Conflict, "the condition does not hold"),
    "ConditionalRequestConflict": (Unavailable, "somebody else writes it at this moment"),
    "RequestTimeout": (Unavailable, "the server waited too long for the request"),
    "InvalidObjectState": (Unsupported, "it is archived: restore it first"),
}
_STATUSES: dict[int, tuple[type[KVFSError], str]] = {
    301: _CODES["PermanentRedirect"],
    307: _CODES["PermanentRedirect"],
    401: (PermissionDenied, "the credentials are refused"),
    403: _CODES["AccessDenied"],
    404: _CODES["NoSuchKey"],
    409: (Unavailable, "somebody else is at it"),
    412: _CODES["PreconditionFailed"],
    416: (OutOfRange, "it ends before that"),
    501: (Unsupported, "the server does not implement it"),
    507: (Exhausted, "the server has no room left"),
}
_BUSY = frozenset(
    ("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded")
)
_NOT_SENT = (boto.ConnectTimeoutError, boto.ProxyConnectionError, aiohttp.ClientConnectorError)
"""There was no connection: nothing was asked for.  ``EndpointConnectionError`` alone says less: it
is raised too when a connection ended that had been open."""


def translated(error: BaseException, what: str) -> KVFSError:
    """The KVFS error; the caller raises it ``from error``."""
    if isinstance(error, KVFSError):
        return error
    if isinstance(error, boto.ClientError):
        return _answered(error.response, what)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return PermissionDenied(
            f"s3: {what}: no credentials were found: set access_key and secret_key, profile, "
            "AWS_ACCESS_KEY_ID, or anonymous = true"
        )
    if any(isinstance(each, boto.SSLError | aiohttp.ClientSSLError) for each in _chain(error)):
        return Unavailable(
            f"s3: {what}: no secure connection ({_first_line(error)}): the endpoint may speak "
            "plain http, or its certificate needs the setting ca",
            retryable=False,
            unapplied=True,
        )
    if any(isinstance(each, _NOT_SENT) for each in _chain(error)):
        return Unavailable(
            f"s3: {what}: the server cannot be reached ({_first_line(error)})", unapplied=True
        )
    if isinstance(
        error, boto.ProfileNotFound | boto.InvalidRegionError | boto.ParamValidationError
    ):
        return Invalid(f"s3: {what}: {_first_line(error)}")
    if isinstance(error, boto.NoRegionError):
        return Invalid(f"s3: {what}: no region is known: set region")
    if isinstance(error, asyncio.CancelledError):
        return Closed(f"s3: {what}: the store was closed")
    if isinstance(error, boto.BotoCoreError | aiohttp.ClientError | OSError | asyncio.TimeoutError):
        return Unavailable(f"s3: {what}: no answer ({_first_line(error)})")
    if isinstance(error, ValueError):
        # What botocore says of an endpoint that is no URL.
        return Invalid(f"s3: {what}: {_first_line(error)}")
    return Unavailable(f"s3: {what}: {error!r}", retryable=False)


def _answered(response: Any, what: str) -> KVFSError:
    code = str(response.get("Error", {}).get("Code", ""))
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    if status in (429, 503) or code in _BUSY:
        after_s = _retry_after_s(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
        return Throttled(f"s3: {what}: the server is busy ({code or status})", after_s=after_s)
    kind, text = _CODES.get(code) or _STATUSES.get(status) or (None, "")
    if kind is None:
        message = response.get("Error", {}).get("Message", "")
        kind = Unavailable if status >= 500 or status == 0 else Invalid
        text = f"the server answered {status} {code}: {message}"
    region = response.get("Error", {}).get("Region")
    return kind(f"s3: {what}: {text}" + (f" ({region})" if region else ""))


def _retry_after_s(header: str) -> float:
    """Seconds, or a date; 0 if it is neither (RFC 9110, 10.2.3)."""
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it comes from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def missed(error: KVFSError, *, if_absent: bool, what: str) -> KVFSError:
    """What it means that the condition of a write did not hold."""
    if if_absent:
        return AlreadyExists(f"s3: {what}: it exists")
    return Conflict(f"s3: {what}: it is not at that version any more")
