"""The requests by which it is found out what conditions a server keeps to."""

from __future__ import annotations

from typing import Any

import attrs

from kvfs.backing.remote.retries import repeated
from kvfs.patience import Patience
from kvfs_backing_s3._connection import Connection
from kvfs_backing_s3._names import Names
from kvfs_backing_s3._objects import etag_of

_WHAT = "trying conditional writes"


@attrs.frozen
class Trial:
    """Writes with conditions just as they are given, for :func:`kvfs.backing.remote.probe`."""

    connection: Connection
    names: Names
    patience: Patience

    def _call(self, method: str, name: str, **parameters: Any) -> dict[str, Any]:
        place = {"Bucket": self.names.bucket, "Key": self.names.prefix + name}
        return repeated(
            lambda: self.connection.call(method, _WHAT, **place, **parameters), self.patience
        )

    def put(
        self,
        name: str,
        data: bytes,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> str:
        """As :class:`kvfs.backing.remote.probing.Put`."""
        headers = _headers(if_none_match, if_match)
        return etag_of(self._call("put_object", name, Body=data, **headers))

    def put_parts(
        self,
        name: str,
        data: bytes,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> str:
        """The same as an upload of one part."""
        upload = self._call("create_multipart_upload", name)["UploadId"]
        try:
            part = self._call("upload_part", name, UploadId=upload, PartNumber=1, Body=data)
            answer = self._call(
                "complete_multipart_upload",
                name,
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
                **_headers(if_none_match, if_match),
            )
        except BaseException:
            self._call("abort_multipart_upload", name, UploadId=upload)
            raise
        return etag_of(answer)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        """As :class:`kvfs.backing.remote.probing.Delete`."""
        self._call("delete_object", name, **_headers(None, if_match))


def _headers(if_none_match: str | None, if_match: str | None) -> dict[str, str]:
    headers = {"IfNoneMatch": if_none_match, "IfMatch": if_match}
    return {name: value for name, value in headers.items() if value is not None}
