"""From what obstore raises to the errors of KVFS.

It has few classes; status and code of the answer stand in the text, as ``object_store`` puts them
there (``src/client/retry.rs``).
"""

from __future__ import annotations

import re

from obstore import exceptions as obstore

from kvfs.backing.remote.retries import Throttled
from kvfs.errors import (
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

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_METADATA = re.compile(r"169\.254\.169\.254|/latest/(api|meta-data)/|metadata\.google|/identity/")
"""Where a machine in a cloud asks for the credentials of its role."""

_REGION = "the bucket is in another region or at another endpoint: set region or endpoint"
_EXPIRED = "the credentials have expired: renew them"

_CODES: dict[str, tuple[type[KVFSError], str]] = {
    "NoSuchBucket": (NotFound, "there is no such bucket: look at the url and the endpoint"),
    "ContainerNotFound": (NotFound, "there is no such container: look at the url and the account"),
    "AccessDenied": (PermissionDenied, "the credentials do not allow it"),
    "InvalidAccessKeyId": (PermissionDenied, "the server does not know the access key"),
    "SignatureDoesNotMatch": (PermissionDenied, "the secret key is wrong"),
    "ExpiredToken": (PermissionDenied, _EXPIRED),
    "TokenRefreshRequired": (PermissionDenied, _EXPIRED),
    "InvalidToken": (PermissionDenied, "the session token is wrong"),
    "RequestTimeTooSkewed": (
        PermissionDenied,
        "the clock of this machine and that of the server differ: set it",
    ),
    "AuthorizationHeaderMalformed": (Invalid, "the region is wrong: set region"),
    "PermanentRedirect": (Invalid, _REGION),
    "TemporaryRedirect": (Invalid, _REGION),
    "InvalidBucketName": (Invalid, "this is no name of a bucket"),
    "KeyTooLongError": (Unsupported, "the name is too long"),
    "EntityTooLarge": (Exhausted, "the object is larger than the server takes"),
    "QuotaExceeded": (Exhausted, "the quota is exhausted"),
    "XMinioStorageFull": (Exhausted, "the server has no room left"),
    "BadDigest": (Corrupt, "other bytes arrived than were sent"),
    "XAmzContentSHA256Mismatch": (Corrupt, "other bytes arrived than were sent"),
    "XAmzContentChecksumMismatch": (Corrupt, "other bytes arrived than were sent"),
    "InvalidObjectState": (Unsupported, "it is archived: restore it first"),
}


class OutOfRange(Invalid):
    """The object ends before the range that was asked for."""


_STATUSES: dict[int, tuple[type[KVFSError], str]] = {
    301: (Invalid, _REGION),
    307: (Invalid, _REGION),
    308: (Invalid, _REGION),
    401: (PermissionDenied, "the credentials are refused"),
    403: (PermissionDenied, "the credentials do not allow it"),
    404: (NotFound, "there is no such object"),
    409: (Unavailable, "somebody else writes it at this moment"),
    412: (Conflict, "the condition does not hold"),
    416: (OutOfRange, "it ends before that"),
    501: (Unsupported, "the server does not implement it"),
    507: (Exhausted, "the server has no room left"),
}
_BUSY = frozenset(("SlowDown", "Throttling", "TooManyRequests", "RequestLimitExceeded"))


def translated(error: BaseException, what: str) -> KVFSError:
    """The KVFS error; the caller raises it ``from error``."""
    if isinstance(error, KVFSError):
        return error
    message, _, source = str(error).partition("\n\nDebug source:")
    first = (message or type(error).__name__).splitlines()[0]
    if isinstance(error, obstore.AlreadyExistsError) and "ConditionalRequest" not in message:
        return Conflict(f"obstore: {what}: it exists")
    if _METADATA.search(first):
        return PermissionDenied(
            f"obstore: {what}: no credentials were found: set access_key and secret_key, the "
            "provider's environment variables, or anonymous = true"
        )
    status = _STATUS.search(message)
    if status is not None:
        return _answered(int(status[1]), message, what)
    if isinstance(error, FileNotFoundError):
        return NotFound(f"obstore: {what}: there is no such object")
    if isinstance(error, obstore.InvalidPathError):
        return Unsupported(
            f"obstore: {what}: the bucket has a key that obstore cannot handle ({first}): "
            "use the driver s3, or a prefix without it"
        )
    if isinstance(error, ValueError):
        return Invalid(f"obstore: {what}: {first}")
    if isinstance(error, obstore.NotSupportedError):
        return Unsupported(f"obstore: {what}: {first}")
    if "NotPartial" in source:
        return Unsupported(
            f"obstore: {what}: the server answers with whole objects where a range is asked for, "
            "and obstore refuses that: use the driver s3"
        )
    if "redirect without LOCATION" in message:
        return Invalid(f"obstore: {what}: {_REGION}")
    if "HTTP error" in message or "HttpError" in source or "reqwest" in source:
        return _not_answered(source, what)
    return Unavailable(f"obstore: {what}: {first}", retryable=False)


def _answered(status: int, message: str, what: str) -> KVFSError:
    found = _CODE.search(message)
    code = found[1] if found else ""
    if status in (429, 503) or code in _BUSY:
        return Throttled(f"obstore: {what}: the server is busy ({code or status})")
    kind, text = _CODES.get(code) or _STATUSES.get(status) or (None, "")
    if kind is None:
        kind = Unavailable if status >= 500 else Invalid
        text = f"the server answered {status} {code}"
    return kind(f"obstore: {what}: {text}")


def _not_answered(source: str, what: str) -> KVFSError:
    if any(word in source for word in ("ertificate", "InvalidContentType", "HandshakeFailure")):
        return Unavailable(
            f"obstore: {what}: no secure connection: the endpoint may speak plain http, or its "
            "certificate needs the setting ca",
            retryable=False,
            unapplied=True,
        )
    if "kind: Connect" in source:
        return Unavailable(
            f"obstore: {what}: the server cannot be reached: is the endpoint right, and up?",
            unapplied=True,
        )
    how = "in time" if "TimedOut" in source or "kind: Timeout" in source else "to the end"
    return Unavailable(f"obstore: {what}: the server did not answer {how}")
