"""An upload without a file: nobody stores it, and only who may upload gets as far as being told what is wrong."""

from __future__ import annotations

from mirror.net import Client, Response

MULTIPART = "multipart/form-data; boundary=airgap-doctor"
_NO_UPLOAD = (
    b'--airgap-doctor\r\nContent-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n--airgap-doctor--\r\n'
)


def knock(client: Client, url: str) -> Response:
    """Send it to *url*, where uploads go. Raises NetworkError where there is no answer."""
    return client.send("POST", url, content=_NO_UPLOAD, headers={"content-type": MULTIPART})
