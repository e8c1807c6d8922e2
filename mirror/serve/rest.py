"""What Nexus's REST API shows of components and assets, as JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby

from packaging.utils import canonicalize_name
from starlette.responses import JSONResponse, Response

from mirror.config.served import Served
from mirror.errors import ConfigError
from mirror.serve.catalog import Catalog, CatalogFile
from mirror.serve.home import Home
from mirror.serve.repository import file_path

_PAGE = 50
_BATCH = 500
_START = "", "", ""
_KNOWN = frozenset({"repository", "continuationToken", "format", "name", "version", "q", "sha256"})

Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """Which files are wanted, from where in the order of repository, project and name. Texts may have ``*``."""

    catalog: Catalog
    repository: str
    holders: tuple[str, ...]
    after: Place
    name: str
    version: str
    words: str
    sha256: str

    @classmethod
    def of(cls, home: Home, parameters: Mapping[str, str], names: Iterable[str]) -> Query:
        """Read a request's parameters, for the repositories *names*; a ConfigError says what is wrong with them."""
        unknown = sorted(set(parameters) - _KNOWN)
        if unknown:
            raise ConfigError(f"{unknown[0][:80]!r} is not known here.", hint=f"Known: {', '.join(sorted(_KNOWN))}.")
        holders = [holder for name in names for holder in home.holders(name)]
        if parameters.get("format", "pypi") != "pypi":
            holders = []
        name = parameters.get("name", "")
        return cls(
            catalog=home.catalog,
            repository=parameters.get("repository", ""),
            holders=tuple(dict.fromkeys(holders)),
            after=_place(parameters.get("continuationToken", "")),
            name=name if "*" in name else canonicalize_name(name),
            version=parameters.get("version", ""),
            words=parameters.get("q", ""),
            sha256=parameters.get("sha256", ""),
        )

    def files(self) -> Iterator[tuple[str, CatalogFile]]:
        """The files that fit, read as they are taken."""
        begun, *rest = self.after
        for repository in sorted(self.holders):
            if repository < begun:
                continue
            after = (rest[0], rest[1]) if repository == begun else ("", "")
            while batch := self.catalog.listed(repository, after=after, limit=_BATCH):
                for file in batch:
                    if self._fits(file):
                        yield repository, file
                after = batch[-1].project, batch[-1].filename

    def _fits(self, file: CatalogFile) -> bool:
        pairs = (self.name, file.project), (self.version, file.version), (self.sha256, file.sha256)
        exact = all(not wanted or fnmatchcase(found, wanted) for wanted, found in pairs)
        return exact and (not self.words or fnmatchcase(file.project, f"*{self.words.lower()}*"))


def repositories(served: Iterable[Served], base: str) -> object:
    """The repositories, each with its kind and what else Nexus says of it. *base* is the server's URL."""
    return [
        {
            "name": each.name,
            "format": "pypi",
            "type": each.kind,
            "url": f"{base}/repository/{each.name}",
            "attributes": _attributes(each),
        }
        for each in served
    ]


def _attributes(served: Served) -> object:
    if served.kind == "proxy":
        return {"proxy": {"remoteUrl": served.remote}}
    if served.kind == "group":
        return {"group": {"memberNames": list(served.members), "writableMember": served.deploy_to}}
    return {}


def components(query: Query, base: str) -> object:
    """A page of components: the files of one version of one project together. *base* is the server's URL."""
    items: list[object] = []
    last: Place = _START
    # All files of a project stand together, but not those of a version: a page ends between two projects.
    for (repository, project), group in groupby(query.files(), key=lambda pair: (pair[0], pair[1].project)):
        if len(items) >= _PAGE:
            return _page(items, last)
        versions: dict[str, list[CatalogFile]] = {}
        for _, file in group:
            versions.setdefault(file.version, []).append(file)
            last = repository, project, file.filename
        items += [_component(query, base, repository, project, each) for each in versions.items()]
    return _page(items, None)


def search(query: Query, base: str) -> object:
    """A page of components, each in the repository that holds it, also where a group was asked."""
    return components(replace(query, repository=""), base)


def assets(query: Query, base: str) -> object:
    """A page of assets, files, each in the repository that holds it."""
    query = replace(query, repository="")
    items: list[object] = []
    last: Place = _START
    for repository, file in query.files():
        if len(items) >= _PAGE:
            return _page(items, last)
        items.append(_asset(query, base, repository, file))
        last = repository, file.project, file.filename
    return _page(items, None)


def refused(answer: Response) -> Response:
    """An answer in words, as Nexus words a refused upload: what it calls validation errors."""
    message = bytes(answer.body).decode().removeprefix(f"{answer.status_code} ").strip()
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return JSONResponse([{"id": "*", "message": message}], answer.status_code, headers)


def _page(items: list[object], last: Place | None) -> object:
    token = None if last is None else base64.urlsafe_b64encode(json.dumps(last).encode()).decode()
    return {"items": items, "continuationToken": token}


def _place(token: str) -> Place:
    if not token:
        return _START
    try:
        repository, project, filename = json.loads(base64.urlsafe_b64decode(token))
        return str(repository), str(project), str(filename)
    except (ValueError, TypeError, binascii.Error):
        raise ConfigError("That continuationToken was not given out by this server.") from None


def _component(
    query: Query, base: str, repository: str, project: str, version: tuple[str, Iterable[CatalogFile]]
) -> object:
    return {
        "id": _identity(repository, project, version[0]),
        "repository": query.repository or repository,
        "format": "pypi",
        "group": None,
        "name": project,
        "version": version[0],
        "assets": [_asset(query, base, repository, file) for file in version[1]],
    }


def _asset(query: Query, base: str, repository: str, file: CatalogFile) -> object:
    shown = query.repository or repository
    path = file_path(file.project, file.version, file.filename)
    digests = {"sha256": file.sha256, **({"md5": file.md5} if file.md5 else {})}
    return {
        "downloadUrl": f"{base}/repository/{shown}/{path}",
        "path": f"packages/{file.project}/{file.version}/{file.filename}",
        "id": _identity(repository, file.project, file.filename),
        "repository": shown,
        "format": "pypi",
        "checksum": digests,
        "contentType": "application/octet-stream",
        "lastModified": file.upload_time,
        "fileSize": file.size,
        "pypi": {"name": file.project, "version": file.version, "summary": file.summary or ""},
    }


def asset_of(identity: str) -> tuple[str, str]:
    """The repository and the file name that an asset's id stands for; ConfigError where it is none."""
    try:
        repository, _, filename = base64.urlsafe_b64decode(identity + "=" * (-len(identity) % 4)).decode().split(":")
    except (ValueError, binascii.Error):
        raise ConfigError("That is no asset's id.") from None
    return repository, filename


def _identity(*parts: str) -> str:
    return base64.urlsafe_b64encode(":".join(parts).encode()).decode().rstrip("=")
