"""Objects in an S3-compatible bucket. The one place that knows the client library (extra ``s3``).

Where the bucket is and who asks is what AWS's own tools are told: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL`` (of S3 alone: ``AWS_ENDPOINT_URL_S3``), ``AWS_CA_BUNDLE``,
the files that ``AWS_PROFILE`` chooses in, and the roles of containers and machines. No credential is ever in a URL.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror.errors import ConfigError, MissingExtraError, StorageError

if TYPE_CHECKING:
    from obstore.store import S3Store

_BYTES = "application/octet-stream"

#: A part is sent from memory: at most four of eight MiB, and ten thousand of them make 80 GB.
_PART = 8 * 1024 * 1024
_AT_ONCE = 4
_READ = 1024 * 1024
#: Seconds. A request as a whole has no limit worth the name: the largest file is sent and read in one.
_CONNECT, _SILENCE, _WHOLE, _RETRYING = 10, 60, 24 * 3600, 30
_RETRIES = 4
_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._/-]*))?\Z")
_FROM_PROFILE = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
    "ca_bundle": "AWS_CA_BUNDLE",
}


@dataclass(frozen=True, slots=True)
class Object:
    """What a bucket says about one object; ``etag`` changes with its content."""

    key: str
    size: int
    modified: datetime
    etag: str


class Bucket:
    """The objects below ``s3://BUCKET/PREFIX``, named without the prefix; safe for many threads.

    A put is all or nothing. Every method raises StorageError where the store does not do as it was asked.
    """

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ) -> None:
        self.url = url.rstrip("/")
        bucket, prefix = split(url)
        self._store = _open(bucket, prefix, _settings(environ))

    def head(self, key: str) -> Object | None:
        """What there is under *key*; None where nothing is, even where there is no bucket."""
        import obstore
        from obstore.exceptions import BaseError

        with self._explained(key):
            try:
                return _object(key, obstore.head(self._store, key))
            except FileNotFoundError:
                return None
            except BaseError:
                # No answer to HEAD says why: that to GET does.
                obstore.get(self._store, key, options={"range": (0, 1)})
                raise

    def get(self, key: str) -> tuple[bytes, Object] | None:
        """A small object as a whole."""
        import obstore

        with self._explained(key):
            try:
                found = obstore.get(self._store, key)
                return bytes(found.bytes()), _object(key, found.meta)
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from *start* to before *end*, in pieces; StorageError where the object is not there."""
        import obstore

        if end is not None and end <= start:
            return
        with self._explained(key):
            span: Any = (start, end) if end is not None else {"offset": start}
            options: Any = {"range": span} if start or end is not None else {}
            for piece in obstore.get(self._store, key, options=options).stream(_READ):
                yield bytes(piece)

    def put(self, key: str, content: bytes | Path, kind: str = _BYTES, cache: str = "") -> None:
        """Store *content* under *key*, whatever was there. A file is read in parts.

        *kind* is its Content-Type, *cache* its Cache-Control, here and below.
        """
        import obstore

        with self._explained(key):
            obstore.put(
                self._store,
                key,
                content,
                attributes=_attributes(kind, cache),
                chunk_size=_PART,
                max_concurrency=_AT_ONCE,
            )

    def create(self, key: str, content: bytes, kind: str = _BYTES, cache: str = "") -> bool:
        """Store *content* unless something is under *key*; whether it was stored. Of many who try, one does."""
        return self._put_if(key, content, _attributes(kind, cache), "create")

    def replace(self, key: str, content: bytes, etag: str, kind: str = _BYTES, cache: str = "") -> bool:
        """Store *content* if the object still is the one that has *etag*; whether it was stored."""
        return self._put_if(key, content, _attributes(kind, cache), {"e_tag": etag})

    def list(self, prefix: str = "", after: str = "") -> Iterator[Object]:
        """Yield the objects in the folder *prefix*, those behind the key *after*, in the order of their keys."""
        import obstore

        with self._explained(prefix):
            for page in obstore.list(self._store, prefix.rstrip("/") or None, offset=after or None):
                for meta in page:
                    yield _object(meta["path"], meta)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is fine."""
        import obstore

        waiting = list(keys)
        if not waiting:
            return
        with self._explained(waiting[0]), contextlib.suppress(FileNotFoundError):
            # Not every store has S3's request for many at once.
            obstore.delete(self._store, waiting if len(waiting) > 1 else waiting[0])

    def _put_if(self, key: str, content: bytes, attributes: Any, mode: Any) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._explained(key):
            try:
                obstore.put(self._store, key, content, attributes=attributes, mode=mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                self._check_bucket(error)
                return False
            return True

    def _check_bucket(self, error: Exception) -> None:
        """Raise where it is not the object that is missing, but the bucket."""
        if "NoSuchBucket" in str(error):
            raise StorageError(f"The bucket of {self.url} does not exist.", hint="Create it, or correct the name.")

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            self._check_bucket(error)
            raise StorageError(f"{self.url}/{key} is missing.") from None
        except (BaseError, OSError) as error:
            why, hint = _reason(error)
            # Not chained: a store's answer may repeat what was sent, tokens included.
            raise StorageError(f"{self.url}/{key} can't be used: {why}.".replace("/ ", " "), hint=hint) from None


def split(url: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://BUCKET/PREFIX``; ConfigError where it is none."""
    found = _URL.match(url)
    if found is None or ".." in (found["prefix"] or ""):
        raise ConfigError(
            f"{url.partition('?')[0].rpartition('@')[2][:100]!r} is no place in an S3 bucket.",
            hint="Write s3://BUCKET or s3://BUCKET/PREFIX. Endpoint, region and credentials come from AWS_* variables.",
        )
    return found["bucket"], (found["prefix"] or "").strip("/")


def _open(bucket: str, prefix: str, settings: Mapping[str, str]) -> S3Store:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ModuleNotFoundError as error:
        raise MissingExtraError("An S3 bucket", "s3") from error
    endpoint = settings.get("AWS_ENDPOINT_URL_S3") or settings.get("AWS_ENDPOINT_URL", "")
    client: dict[str, Any] = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=_CONNECT),
        "read_timeout": timedelta(seconds=_SILENCE),
        "timeout": timedelta(seconds=_WHOLE),
    }
    bundle = settings.get("AWS_CA_BUNDLE")
    if bundle:
        try:
            client["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            raise ConfigError(f"AWS_CA_BUNDLE names {bundle}, which can't be read: {error.strerror}.") from error
    given = {name.lower(): value for name, value in settings.items() if value and name in _FROM_PROFILE.values()}
    given.pop("aws_ca_bundle", None)
    given.setdefault("aws_region", settings.get("AWS_DEFAULT_REGION") or "us-east-1")
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=given,  # type: ignore[arg-type]
            client_options=client,  # type: ignore[arg-type]
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRYING)},
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"The bucket {bucket} can't be opened with the AWS_* settings: {_reason(error)[0]}."
        ) from None


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The AWS_* variables; what they leave open comes from the profile's sections in AWS's two files."""
    found = {name: value for name, value in environ.items() if name.startswith("AWS_") and value}
    profile = found.get("AWS_PROFILE", "default")
    folder = Path.home() / ".aws"
    config = Path(found.get("AWS_CONFIG_FILE", folder / "config"))
    credentials = Path(found.get("AWS_SHARED_CREDENTIALS_FILE", folder / "credentials"))
    section = profile if profile == "default" else f"profile {profile}"
    stored = {**_section(config, section), **_section(credentials, profile)}
    named = {_FROM_PROFILE[key]: value for key, value in stored.items() if key in _FROM_PROFILE}
    if "AWS_ACCESS_KEY_ID" in found:  # a key and its secret belong together
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            named.pop(name, None)
    return named | found


def _section(path: Path, name: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.expanduser().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    except configparser.Error:
        # Its own words would repeat the line, which may be the secret.
        raise ConfigError(f"{path} is no file of AWS profiles.") from None
    return dict(parser[name]) if parser.has_section(name) else {}


def _attributes(kind: str, cache: str) -> Any:
    return {"Content-Type": kind, **({"Cache-Control": cache} if cache else {})}


def _object(key: str, meta: Any) -> Object:
    return Object(key, meta["size"], meta["last_modified"], meta["e_tag"] or "")


_REASONS: tuple[tuple[str, str, str], ...] = (
    ("NoSuchBucket", "there is no such bucket", "Create it, or correct the name."),
    ("InvalidAccessKeyId", "the access key is not known there", "Check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL."),
    ("SignatureDoesNotMatch", "the secret key is wrong", "Check AWS_SECRET_ACCESS_KEY and AWS_REGION."),
    ("InvalidToken", "the session token is not known there", "Get new credentials, or unset AWS_SESSION_TOKEN."),
    ("RequestTimeTooSkewed", "this machine's clock is wrong", "Set the clock: a signature holds for 15 minutes."),
    ("AuthorizationHeaderMalformed", "it is in another region", "Check AWS_REGION."),
    ("ExpiredToken", "the session token has expired", "Get new credentials."),
    ("AccessDenied", "access is denied", "The key needs ListBucket, GetObject, PutObject and DeleteObject."),
    ("UnknownIssuer", "its certificate is not trusted", "Name the CA's certificate in AWS_CA_BUNDLE."),
    ("NotValidForName", "its certificate is for another host name", "Check AWS_ENDPOINT_URL."),
    ("InvalidCertificate", "its certificate is not valid", "Look at its dates and its chain."),
    ("onnection refused", "nothing answers at the endpoint", "Check AWS_ENDPOINT_URL."),
    ("dns error", "the endpoint's host name is not known", "Check AWS_ENDPOINT_URL and AWS_REGION."),
    ("timed out", "the endpoint does not answer in time", "Check AWS_ENDPOINT_URL and the network."),
    ("169.254.169.254", "there are no credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."),
)


def _reason(error: Exception) -> tuple[str, str]:
    """Why, in words of our own: a store's answer may be long, and repeat what was sent."""
    text = str(error)
    for mark, why, hint in _REASONS:
        if mark in text:
            return why, hint
    code = re.search(r"<Code>(\w{1,60})</Code>", text)
    status = re.search(r"\b([45]\d\d) [A-Z][A-Za-z ]{2,30}\b", text)
    said = [match[1] for match in (code, status) if match]
    return f"the store answered {' '.join(said)}" if said else type(error).__name__, "Check the AWS_* settings."
