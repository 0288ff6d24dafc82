"""The clients of obstore for each provider, from the settings."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from kvfs.errors import Invalid
from kvfs_backing_obstore._settings import ObstoreSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_WHOLE_REQUEST = timedelta(days=1)
"""obstore's own limit, of 30 seconds by default, counts the body, however large it is; what limits
us is the wait for its next bytes."""


def client(settings: ObstoreSettings, *, repeats: int) -> ObjectStore:
    """A client.  It makes no request before it is used.

    :param repeats: how often it makes a request again by itself.
    :raises Invalid: a setting makes no sense to it.
    """
    place = settings.place()
    options = _options(settings)
    retries: RetryConfig = {
        "max_retries": repeats,
        "retry_timeout": timedelta(seconds=settings.retry_total),
    }
    try:
        if place.scheme == "s3":
            return S3Store(
                place.bucket, config=_s3(settings), client_options=options, retry_config=retries
            )
        if place.scheme == "gs":
            return GCSStore(
                place.bucket, config=_gs(settings), client_options=options, retry_config=retries
            )
        return AzureStore(
            place.bucket, config=_az(settings), client_options=options, retry_config=retries
        )
    except Exception as error:
        first = str(error).splitlines()[0]
        raise Invalid(f"obstore: {settings.url} cannot be opened: {first}") from error


def _options(settings: ObstoreSettings) -> ClientConfig:
    wait = timedelta(seconds=settings.timeout)
    options: ClientConfig = {
        "connect_timeout": wait,
        "read_timeout": wait,
        "timeout": _WHOLE_REQUEST,
        "allow_http": True,
        "pool_max_idle_per_host": str(settings.connections),
    }
    if settings.endpoint is not None and settings.endpoint.startswith("https://"):
        options["allow_http"] = False
    if settings.ca is not None:
        try:
            options["root_certificate"] = settings.ca.read_bytes()
        except OSError as error:
            raise Invalid(f"obstore: ca: {settings.ca} cannot be read: {error.strerror}") from error
    return options


def _given(config: dict[str, Any]) -> Any:
    return {name: value for name, value in config.items() if value is not None}


def _s3(settings: ObstoreSettings) -> Any:
    endpoint = settings.endpoint
    if endpoint is not None and not settings.path_style:
        parts = urlsplit(endpoint)
        endpoint = f"{parts.scheme}://{settings.place().bucket}.{parts.netloc}"
    return _given(
        {
            "endpoint": endpoint and endpoint.rstrip("/"),
            "region": settings.region,
            "access_key_id": settings.access_key,
            "secret_access_key": settings.secret_key,
            "session_token": settings.session_token,
            "skip_signature": settings.anonymous or None,
            "virtual_hosted_style_request": not settings.path_style,
        }
    )


def _gs(settings: ObstoreSettings) -> Any:
    return _given(
        {
            "base_url": settings.endpoint,
            "service_account": settings.service_account and str(settings.service_account),
            "skip_signature": settings.anonymous or None,
        }
    )


def _az(settings: ObstoreSettings) -> Any:
    return _given(
        {
            "endpoint": settings.endpoint,
            "account_name": settings.account,
            "account_key": settings.secret_key,
            "skip_signature": settings.anonymous or None,
        }
    )
