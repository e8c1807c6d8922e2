from __future__ import annotations

import html
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from mirror.errors import IndexPageError
from mirror.index import simple, static
from mirror.index.simple import HTML_TYPE, JSON_TYPE, PageEntry, ParsedPage, parse_page, parse_root
from mirror.models import File, Hashes

SHA = "a" * 64
MD5 = "b" * 32
URL = "https://index.example/simple/foo/"


def page(
    body: str | bytes, *, url: str = URL, kind: str = "text/html; charset=utf-8", project: str = "foo"
) -> ParsedPage:
    raw = body if isinstance(body, bytes) else body.encode()
    return parse_page(raw, kind, url, project=project, index="https://index.example/simple/")


def json_page(*files: Any, **more: Any) -> ParsedPage:
    body = {"meta": {"api-version": "1.0"}, "name": "foo", "files": list(files), **more}
    return page(json.dumps(body), kind=JSON_TYPE)


def only_file(parsed: ParsedPage) -> File:
    assert len(parsed.filenames) == 1
    return parsed.file(0)


def test_pypi_page() -> None:
    parsed = page(
        '<!DOCTYPE html>\n<html>\n<head>\n<meta name="pypi:repository-version" content="1.4">\n'
        "<title>Links for foo</title></head>\n<body>\n<h1>Links for foo</h1>\n"
        f'<a href="https://files.example/a/Foo-1.0-py3-none-any.whl#sha256={SHA}" data-requires-python="&gt;=3.8,&lt;4"'
        f' data-dist-info-metadata="sha256={SHA}" data-core-metadata="sha256={SHA}">Foo-1.0-py3-none-any.whl</a><br>\n'
        f'<a href="https://files.example/foo-0.9.tar.gz#sha256={SHA}" data-yanked="broken &amp; sad">'
        "foo-0.9.tar.gz</a><br />\n"
        "</body>\n</html>\n<!--SERIAL 123-->"
    )
    assert list(parsed.filenames) == ["Foo-1.0-py3-none-any.whl", "foo-0.9.tar.gz"]
    assert parsed.file(0) == File(
        filename="Foo-1.0-py3-none-any.whl",
        url="https://files.example/a/Foo-1.0-py3-none-any.whl",
        project=canonicalize_name("foo"),
        version="1.0",
        hashes=Hashes((("sha256", SHA),)),
        index="https://index.example/simple/",
        requires_python=">=3.8,<4",
        metadata=Hashes((("sha256", SHA),)),
    )
    assert parsed.file(1).yanked == "broken & sad"
    assert parsed.file(1).metadata is None
    assert parsed.status == ("active", "")
    assert parsed.skipped == ()


def test_nexus_page() -> None:
    parsed = page(
        f'<html><body><a href="../../packages/foo/1.0/foo-1.0.tar.gz#md5={MD5}" rel="internal" '
        'data-requires-python="">foo-1.0.tar.gz</a><br/></body></html>',
        url="https://nexus.example/repository/pypi/simple/foo/",
    )
    file = only_file(parsed)
    assert file.url == "https://nexus.example/repository/pypi/packages/foo/1.0/foo-1.0.tar.gz"
    assert file.hashes == Hashes((("md5", MD5),))
    assert file.requires_python is None


@pytest.mark.parametrize(
    "anchor",
    [
        "<A HREF='x/foo-1.0.zip#sha512={sha512}'>foo</A>",
        "<a href=x/foo-1.0.zip#sha512={sha512}>foo",
        '<a\n  rel="nofollow"\n  href="x/foo-1.0.zip#egg=foo&sha512={sha512}"\n>foo</a>',
        '<a class=c href=" x/foo-1.0.zip#sha512={sha512} "><b>foo</b></a>',
        '<a href="x/foo&#45;1.0.zip#sha512={sha512}">foo</a>',
        '<!-- <a href="foo-0.1.zip">no</a> --><a href="x/foo-1.0.zip#sha512={sha512}">foo</a>',
        '<a name="top">top</a><a href="x/foo-1.0.zip?query=a/b#sha512={sha512}">foo</a>',
        '<script>"<a href=foo-0.1.zip>"</script><a href="x/foo-1.0.zip#sha512={sha512}">foo</a>',
    ],
)
def test_pages_that_only_an_html_parser_understands(anchor: str) -> None:
    file = only_file(page(anchor.replace("{sha512}", "c" * 128)))
    assert file.filename == "foo-1.0.zip"
    assert file.url.partition("?")[0] == f"{URL}x/foo-1.0.zip"
    assert file.hashes.get("sha512") == "c" * 128


def test_base() -> None:
    parsed = page('<base href="https://u:secret@files.example/x/"><a href="foo-1.0.zip">foo</a>')
    assert only_file(parsed).url == "https://files.example/x/foo-1.0.zip"


def test_escaped_names() -> None:
    parsed = page('<a href="foo-1.0%2Bcu118-py3-none-any.whl">x</a>')
    assert (only_file(parsed).filename, only_file(parsed).version) == ("foo-1.0+cu118-py3-none-any.whl", "1.0+cu118")
    assert only_file(parsed).url == f"{URL}foo-1.0%2Bcu118-py3-none-any.whl"


def test_encodings() -> None:
    assert (
        page('<a href="foo-1.0.zip" data-yanked="schön">x</a>'.encode("latin-1"), kind="text/html; charset=latin-1")
        .file(0)
        .yanked
        == "schön"
    )
    assert (
        page(b'\xef\xbb\xbf<a href="foo-1.0.zip">\xff</a>', kind="text/html; charset=nonsense").file(0).version == "1.0"
    )


@pytest.mark.parametrize("value", ["true", "sha256=" + SHA, "false", "", "sha999=00"])
def test_offered_metadata(value: str) -> None:
    expected = {"true": Hashes(), "sha256=" + SHA: Hashes((("sha256", SHA),))}.get(value)
    assert only_file(page(f'<a href="foo-1.0.zip" data-dist-info-metadata="{value}">x</a>')).metadata == expected
    both = f'<a href="foo-1.0.zip" data-dist-info-metadata="true" data-core-metadata="{value}">x</a>'
    assert only_file(page(both)).metadata == expected


def test_yanked_without_a_reason() -> None:
    assert only_file(page('<a href="foo-1.0.zip" data-yanked="">x</a>')).yanked == ""
    assert only_file(page('<a href="foo-1.0.zip" data-yanked>x</a>')).yanked == ""


def test_project_status() -> None:
    head = (
        '<meta name="pypi:project-status" content="quarantined"><meta name="pypi:project-status-reason" content="bad">'
    )
    assert page(head).status == ("quarantined", "bad")
    assert json_page(**{"project-status": {"status": "archived"}}).status == ("archived", "")


def test_skipped_says_why() -> None:
    names = [
        "foo-1.0.exe",
        "bar-1.0.tar.gz",
        "foo-one.tar.gz",
        "foo-1.0-py3-none.whl",
        "foo-1.0.tar.gz",
        "",
        "foo:1-2.zip",
    ]
    parsed = page("".join(f'<a href="{name}">x</a>\n' for name in names))
    assert dict(parsed.skipped) == {
        "foo-1.0.exe": "neither a wheel nor an sdist",
        "bar-1.0.tar.gz": "belongs to bar",
        "foo-one.tar.gz": "'one' is not a version (PEP 440)",
        "foo-1.0-py3-none.whl": "neither a wheel nor an sdist",
        "": "not a usable file name",
        "foo:1-2.zip": "not a usable file name",
    }
    with pytest.raises(IndexPageError, match="belongs to bar"):
        parsed.file(1)
    assert parsed.file(4).version == "1.0"


def test_versions_come_out_normalised() -> None:
    assert page('<a href="foo-1.0-beta.2.tar.gz">x</a>').file(0).version == "1.0b2"


def test_a_broken_digest_is_an_error_and_an_empty_one_is_none() -> None:
    with pytest.raises(IndexPageError, match="sha256"):
        page('<a href="foo-1.0.zip#sha256=123">x</a>').file(0)
    assert not page('<a href="foo-1.0.zip#sha256=">x</a>').file(0).hashes


@pytest.mark.parametrize("scheme", ["javascript:/", "data:,/", "ftp://x/", "file:///etc/", "http://[/"])
def test_links_that_lead_elsewhere(scheme: str) -> None:
    with pytest.raises(IndexPageError):
        page(f'<a href="{scheme}foo-1.0.zip">x</a>').file(0)
    with pytest.raises(IndexPageError):
        json_page({"filename": "foo-1.0.zip", "url": f"{scheme}foo-1.0.zip"}).file(0)


def test_no_credential_leaves_the_page() -> None:
    url = "https://user:secret@index.example/simple/foo/"
    parsed = parse_page(
        b'<a href="foo-1.0.zip">x</a><a href="https://user:secret@files.example/foo-2.0.zip">x</a>',
        "text/html",
        url,
        project="foo",
        index="https://user:secret@index.example/simple/",
    )
    assert "secret" not in repr([parsed.index, parsed.url, parsed.file(0), parsed.file(1)])
    with pytest.raises(IndexPageError) as caught:
        parse_page(b"{", JSON_TYPE, url, project="foo", index=url)
    assert "secret" not in str(caught.value)


def test_json_page() -> None:
    parsed = json_page(
        {
            "filename": "foo-1.0-py3-none-any.whl",
            "url": "../../files/foo-1.0-py3-none-any.whl#ignored",
            "hashes": {"sha256": SHA, "unheard-of": "1"},
            "requires-python": ">=3.8",
            "size": 10,
            "upload-time": "2024-01-01T00:00:00Z",
            "yanked": "why",
            "core-metadata": {"sha256": SHA},
            "provenance": "https://index.example/integrity",
        },
        {"filename": "foo-2.0.tar.gz", "url": "https://x.example/foo-2.0.tar.gz", "hashes": {}, "yanked": False,
         "dist-info-metadata": True},
        {"filename": "foo-3.0.tar.gz", "url": "https://x.example/foo-3.0.tar.gz", "yanked": True, "size": "big",
         "requires-python": None, "core-metadata": False},
        {"filename": 3, "url": "x"},
        "nonsense",
    )  # fmt: skip
    assert parsed.file(0) == File(
        filename="foo-1.0-py3-none-any.whl",
        url="https://index.example/files/foo-1.0-py3-none-any.whl",
        project=canonicalize_name("foo"),
        version="1.0",
        hashes=Hashes((("sha256", SHA),)),
        index="https://index.example/simple/",
        size=10,
        requires_python=">=3.8",
        yanked="why",
        upload_time="2024-01-01T00:00:00Z",
        metadata=Hashes((("sha256", SHA),)),
    )
    assert (parsed.file(1).yanked, parsed.file(1).metadata) == (None, Hashes())
    assert (parsed.file(2).yanked, parsed.file(2).metadata, parsed.file(2).size) == ("", None, None)
    assert [reason for _, reason in parsed.skipped] == ["an entry without a file name and a URL"] * 2


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.99"])
def test_any_1_x_is_understood(version: str) -> None:
    assert not json_page(meta={"api-version": version}).filenames
    assert not page(f'<meta name="pypi:repository-version" content="{version}">').filenames


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"meta": {"api-version": "2.0"}, "files": []}', JSON_TYPE),
        (b'{"meta": {"api-version": 1}, "files": []}', JSON_TYPE),
        (b'<meta name="pypi:repository-version" content="2.0">', "text/html"),
        (b"{}", JSON_TYPE),
        (b"[]", JSON_TYPE),
        (b"{", JSON_TYPE),
        (b"[" * 100_000, JSON_TYPE),
        (b"\xff", JSON_TYPE),
        (b'{"files": {}}', JSON_TYPE),
        (b"{}", "application/vnd.pypi.simple.v2+json"),
        (b"PK", "application/zip"),
        (b"hello", ""),
    ],
)
def test_what_is_no_index(body: bytes, kind: str) -> None:
    with pytest.raises(IndexPageError) as caught:
        page(body, kind=kind)
    assert "index.example/simple/foo/" in str(caught.value)


def test_a_server_that_names_no_type() -> None:
    assert page(b'<!DOCTYPE html><a href="foo-1.0.zip">x</a>', kind="").file(0).version == "1.0"
    assert not page(b'{"files": []}', kind="application/octet-stream").filenames


def test_root() -> None:
    names = ["Foo_Bar", "baz"]
    url = "https://index.example/simple/"
    assert parse_root(simple.render_root_json(names), JSON_TYPE, url) == names
    assert parse_root(simple.render_root_html(names), "text/html", url) == ["foo-bar", "baz"]
    for page, kind in ((simple.render_root_json(names), JSON_TYPE), (simple.render_root_html(names), HTML_TYPE)):
        cut = [parse_root(page[:end], kind, url, cut=True) for end in range(page.index(b"oo"), len(page))]
        assert cut[0] == []
        assert sorted(map(tuple, cut)) == list(map(tuple, cut))  # one after the other appears, and none in part
        assert {len(found) for found in cut} == {0, 1, 2}
    assert parse_root(b'<a href="/simple/foo/">x</a><a href="bar">x</a><a href="bar/#">x</a>', HTML_TYPE, url) == [
        "foo",
        "bar",
    ]


def test_one_project_of_a_find_links_page() -> None:
    parsed = page('<a href="foo-1.0.zip">x</a><a href="foo-bar-2.0.zip">x</a><a href="baz-1.0.zip">x</a>', project="")
    assert parsed.only(canonicalize_name("foo-bar")).file(0).version == "2.0"
    assert list(parsed.only(canonicalize_name("baz")).filenames) == ["baz-1.0.zip"]


# --- the fast path and an HTML parser see the same page --------------------------------------------------------------

text = st.text(st.sampled_from("ab-1._%2F/#?&;=<>\"' \n\t\xa0\x00é"), max_size=12)
plain = st.text(st.sampled_from("abfo-1.0_/%2"), max_size=12)
attribute = st.builds(
    lambda name, value, quote: f" {name}={quote}{value}{quote}",
    st.sampled_from(["href", "data-yanked", "data-requires-python", "rel", "HREF", "class"]),
    text | plain,
    st.sampled_from(['"', '"', '"', "'", ""]),
)
escaped = st.builds(
    lambda name, value: f' {name}="{html.escape(value)}"', st.sampled_from(["href", "data-yanked"]), text
)
anchor = st.builds(
    lambda start, attributes, inner, end: f"<{start}{''.join(attributes)}>{inner}{end}",
    st.sampled_from(["a", "a", "a", "a", "A", "abbr", "a\n"]),
    st.lists(attribute | escaped, max_size=4),
    text | plain,
    st.sampled_from(["</a>", "</a>", "</a>", "</a><br/>", "", "</A>"]),
)
around = st.sampled_from(
    ["\n", "<br>", "<br />", "</li><li>", "<!-- ", " -->", "<title>", "</title>", "<script>", "</script>",
     '<p class="x">', "<!-- 1 -->",
     "<base href=\"/x/\">", "&amp;", "&lt", "<", ">", "<!DOCTYPE html>",
     '<meta name="pypi:project-status" content="archived">',
     "<meta CONTENT='x' name=x>", "<textarea>", "<![CDATA[", "<?xml ?>", "</p"]
)  # fmt: skip


attributes = st.builds(
    lambda name, value: f' {name}="{html.escape(value)}"',
    st.sampled_from(["href", "rel", "data-yanked", "data-requires-python"]),
    plain | st.text(st.sampled_from("abz.-1/#?>=&'\" "), max_size=12),
)
plain_anchor = st.builds(
    lambda href, others, inner: f'<a href="{href}"{"".join(others)}>{inner}</a>',
    plain | st.just("x/foo-1.0.zip#sha256=00&amp;egg=x"),
    st.lists(attributes, max_size=3),
    plain,
)
plain_around = st.sampled_from(["\n", "<br>", "<br />", "</li><li>", '<p class="x">', "<!-- 1 -->", "<title>x</title>"])
plain_documents = st.lists(plain_anchor | plain_around, max_size=8).map("".join)


@settings(max_examples=300)
@given(plain_documents | st.lists(anchor | around | plain_anchor, max_size=6).map("".join))
def test_both_paths_are_equal(document: str) -> None:
    fast = simple._scan_html(document)
    if fast is None:
        return
    slow = simple._walk_html(document)
    assert (fast.filenames, fast.meta, fast.base) == (slow.filenames, slow.meta, slow.base)
    assert [simple._html_attributes(str(link)) for link in fast.links] == slow.links


def test_usual_pages_take_the_fast_path() -> None:
    for document in (
        '<!DOCTYPE html><title>x</title><a href="a/foo-1.0.zip#md5=0" data-requires-python=">=3">x</a><!--SERIAL 1-->',
        '<li><a rel="internal" href="a/foo-1.0.zip" data-yanked="it&#39;s bad" >x</a></li>\n',
    ):
        assert simple._scan_html(document) is not None


names = st.from_regex(r"[a-z]{1,5}-[0-9]\.[0-9](\+[a-z]{2})?-py3-none-any\.whl", fullmatch=True)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
printable = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)
entries = st.builds(
    PageEntry,
    filename=names,
    url=names.map(lambda name: "../../packages/" + name.replace("+", "%2B")),
    hashes=hexes.map(lambda digest: Hashes((("sha256", digest),))),
    size=st.none() | st.integers(0, 2**60),
    requires_python=st.none() | st.sampled_from([">=3.8", "<4,>=3.6", "!=3.1.*"]),
    yanked=st.none() | printable,
    upload_time=st.none() | st.just("2024-01-01T00:00:00.000000Z"),
    metadata=st.none() | st.just(Hashes()) | hexes.map(lambda digest: Hashes((("sha256", digest),))),
)


@given(st.lists(entries, max_size=5))
def test_what_is_rendered_is_parsed(listed: list[PageEntry]) -> None:
    body = simple.render_html("foo", listed)
    assert simple._scan_html(body.decode()) is not None, "our own pages take the fast path"
    for rendered, kind in ((body, "text/html"), (simple.render_json("foo", listed), JSON_TYPE)):
        parsed = page(rendered, kind=kind)
        links = [parsed.read(link) for link in parsed.links]
        assert len(links) == len(listed)
        for entry, link, url in zip(listed, links, parsed.filenames, strict=True):
            assert (link.hashes, link.metadata, link.requires_python) == (
                entry.hashes,
                entry.metadata,
                entry.requires_python,
            )
            assert link.url == entry.url
            assert (link.yanked is None) == (entry.yanked is None)
            if kind == JSON_TYPE:
                assert (link.size, link.upload_time, url) == (entry.size, entry.upload_time, entry.filename)


def test_rendered_json_names_sizes_and_versions_where_it_can() -> None:
    known = [
        PageEntry("foo-10.0.zip", "x", size=1),
        PageEntry("foo-2.0.zip", "x", size=1),
        PageEntry("foo-2.0.tar.gz", "x", size=2),
    ]
    document = json.loads(simple.render_json("Foo", known))
    assert (document["meta"]["api-version"], document["versions"], document["name"]) == ("1.1", ["2.0", "10.0"], "foo")
    document = json.loads(simple.render_json("foo", [PageEntry("foo-1.0.zip", "x")]))
    assert document["meta"]["api-version"] == "1.0"
    assert "versions" not in document


def test_nothing_escapes_from_a_rendered_page() -> None:
    hostile = PageEntry("foo-1.0.zip", 'x"><script>', yanked='"><script>alert(1)</script>', requires_python='"<')
    assert b"<script" not in simple.render_html('<script src="x">', [hostile])


_names = st.text(st.sampled_from('ab-"<>&\\]}{é/ '), min_size=1, max_size=6)


@given(st.lists(_names, max_size=5), st.lists(_names, max_size=12))
def test_a_root_that_grows_has_the_pages_of_all_its_projects(first: list[str], added: list[str]) -> None:
    root = static.Root(first)
    assert root.pages == static.root_pages(first)
    for number, project in enumerate(added, 1):
        root.add(project)
        assert root.pages == static.root_pages([*first, *added[:number]])
