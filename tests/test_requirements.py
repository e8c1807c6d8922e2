"""Requirements files: every element of the format, compared with pip's own parser, and anything at all."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from mirror.errors import RequirementsError
from mirror.lockfiles.requirements import read_requirements
from mirror.models import RequirementSet

A, B = "a" * 64, "b" * 64

# Reads the files named on standard input as `pip download -r` does, each on its own.
ASK_PIP = """
import json, sys
from optparse import Values
from pip._internal.index.collector import LinkCollector
from pip._internal.index.package_finder import PackageFinder
from pip._internal.models.format_control import FormatControl
from pip._internal.models.search_scope import SearchScope
from pip._internal.models.selection_prefs import SelectionPreferences
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements

def ask(path):
    session = PipSession()
    scope = SearchScope.create(find_links=[], index_urls=[], no_index=False)
    preferences = SelectionPreferences(allow_yanked=True, format_control=FormatControl())
    finder = PackageFinder.create(LinkCollector(session, scope), preferences)
    options = Values({"require_hashes": False, "no_require_hashes": False, "features_enabled": []})
    found = [
        [line.constraint, line.requirement, sorted(
            algorithm + ":" + digest
            for algorithm, digests in ((line.options or {}).get("hashes") or {}).items() for digest in digests
        )]
        for line in parse_requirements(path, session, finder=finder, options=options)
    ]
    return {
        "lines": found,
        "index_urls": finder.index_urls,
        "find_links": finder.find_links,
        "no_index": finder.search_scope.no_index,
        "trusted": sorted(host + (f":{port}" if port else "") for host, port in session.pip_trusted_origins),
        "no_binary": sorted(finder.format_control.no_binary),
        "only_binary": sorted(finder.format_control.only_binary),
        "require_hashes": bool(options.require_hashes or any(hashes for _, _, hashes in found)),
        "prefer_binary": finder.prefer_binary,
    }

answers = []
for path in json.load(sys.stdin):
    try:
        answers.append(ask(path))
    except Exception as error:
        answers.append(type(error).__name__)
print(json.dumps(answers))
"""


def ask_pip(paths: list[Path], environ: Mapping[str, str] | None = None) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK_PIP],
        input=json.dumps([str(path) for path in paths]),
        env={"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, **(environ or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers


def as_pip_says(found: RequirementSet) -> dict[str, Any]:
    lines = [(False, line) for line in found.requirements] + [(True, line) for line in found.constraints]
    return {
        "lines": [[constraint, str(line.requirement), sorted(line.hashes)] for constraint, line in lines],
        "index_urls": [*([found.index_url] if found.index_url else []), *found.extra_index_urls],
        "find_links": list(found.find_links),
        "no_index": found.no_index,
        "trusted": sorted(found.trusted_hosts),
        "no_binary": sorted(found.format_control.no_binary),
        "only_binary": sorted(found.format_control.only_binary),
        "require_hashes": found.require_hashes,
        "prefer_binary": found.prefer_binary,
    }


def normalized(answer: dict[str, Any]) -> dict[str, Any]:
    """Spell pip's requirements, which are text, as packaging does; constraints last."""
    lines = [[constraint, str(Requirement(text)), hashes] for constraint, text, hashes in answer["lines"]]
    return {**answer, "lines": sorted(lines, key=lambda line: bool(line[0]))}


Read = Callable[..., RequirementSet]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(text: str | bytes, environ: Mapping[str, str] | None = None) -> RequirementSet:
        path = tmp_path / "requirements.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_requirements([str(path)], environ=environ or {})

    return write_and_read


SAME_AS_PIP = {
    "pin": "django==5.2.1\n",
    "ranges": "django >= 4, < 5\nflask~=3.0\nx!=1.5,>1\ny===1.0+local\nz<2\nw==1.*\n",
    "bare": "django",
    "extras": "celery[redis,S3]>=5\nuvicorn[standard]\nx [ a , b ] == 1\n",
    "markers": "a; python_version < '3.11'\nb>=1 ; sys_platform == \"win32\" and (extra == 'x' or os_name=='nt')\n",
    "marker with a hash sign": "a; platform_version == '#1'\n",
    "url": "a @ https://h.example/a-1.0-py3-none-any.whl#sha256=00\nb@file:///tmp/b.tar.gz ; os_name == 'nt'\n",
    "comments": "# first\n\na # why\n  # indented\nc\t# tab\n",
    "hashes": f"a==1 --hash=sha256:{A} --hash sha256:{B}\nb==2 --hash=sha512:{A}{A} --hash=sha384:{A}{'c' * 32}\n",
    "continuations": f"a==1 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\nb\\\n>=2\nc \\\n",
    "comment in a continuation": "a \\\n# comment\nb>=2\n",
    "comment line that ends in a backslash": "# comment \\\na\n",
    "backslashes at both ends": "a\\\n\\>=1\\\n,<2\n",
    "index": "--index-url https://u:p@i.example/simple\n--extra-index-url=https://e.example/a\n",
    "short index": "-i https://i.example/simple\na\n",
    "attached": "-ihttps://i.example/simple\na\n",
    "alias": "--pypi-url https://i.example/simple\n",
    "abbreviated": "--index https://i.example/\n--extra https://e.example\n--find https://f.example/\n",
    "find-links": "-f https://f.example/links.html\n--find-links /nowhere/at/all\n-fhttps://g.example/\n",
    "no-index": "--no-index\n",
    "pre": "--pre\n",
    "no-binary": "--no-binary Foo_Bar,baz\n--no-binary=:none:\n--no-binary x\n",
    "only-binary": "--only-binary :all:\n--no-binary numpy\n",
    "format lists": "--no-binary a,b,c\n--only-binary b,:none:,d\n--no-binary :all:,:none:,e\n",
    "all clears": "--only-binary a\n--no-binary :all:\n",
    "prefer-binary": "--prefer-binary\n",
    "require-hashes": "--require-hashes\n",
    "trusted-host": "--trusted-host h.example\n--trusted-host=i.example:8443\n",
    "use-feature": "--use-feature fast-deps\na\n",
    "several options on a line": "--no-index --prefer-binary -f 'https://f.example/a b'\n",
    "variables": "--index-url https://${USER_1}:${TOKEN}@i.example/${MISSING}/$TOKEN/${lower}\na${OPERATOR}1\n",
    "crlf": "a==1\r\nb==2 \\\r\n  --hash=sha256:" + A + "\r\n",
    "form feed and old line ends": "a\x0cb\rc\u2028d\x85e\n",
    "utf-8 in a comment": "# größer ☃\na\n",
    "empty": "",
    "only blank": " \n\t\n\\\n",
}
VARIABLES = {"USER_1": "bob", "TOKEN": "s3cr", "OPERATOR": ">=", "EMPTY": ""}


def test_everything_that_pip_reads(tmp_path: Path) -> None:
    paths = []
    for number, text in enumerate(SAME_AS_PIP.values()):
        paths.append(tmp_path / f"{number}.txt")
        paths[-1].write_bytes(text.encode())
    for name, path, answer in zip(SAME_AS_PIP, paths, ask_pip(paths, VARIABLES), strict=True):
        assert not isinstance(answer, str), (name, answer)
        found = read_requirements([str(path)], environ=VARIABLES)
        assert (name, as_pip_says(found)) == (name, normalized(answer))


def test_an_extra_index_before_the_index_is_kept(read: Read) -> None:
    """pip forgets it; whoever wrote the file wants both."""
    found = read("--extra-index-url https://e.example\n--index-url https://i.example\n")
    assert (found.index_url, found.extra_index_urls) == ("https://i.example", ("https://e.example",))


def test_releases_before_the_final_one(read: Read) -> None:
    assert read("--pre\n").pre
    assert read("--all-releases :all:\n").pre
    assert read("--all-releases Foo_x,bar\n--all-releases baz\n").selection.pre == {"foo-x", "bar", "baz"}
    assert not read("a\n").pre


def test_what_a_line_becomes(read: Read) -> None:
    found = read(
        f"# c\nDjango[argon2]==5.2 ; os_name == 'nt' \\\n  --hash=sha256:{A.upper()} --hash=sha256:{A}  # why\n"
    )
    (line,) = found.requirements
    assert line.project == "django"
    assert line.requirement == Requirement("Django[argon2]==5.2; os_name == 'nt'")
    assert line.hashes == (f"sha256:{A}",)
    assert line.origin == "requirements.txt:2"
    assert found.require_hashes


def test_hashes_can_be_made_optional(read: Read) -> None:
    assert not read(f"--no-require-hashes\na==1 --hash=sha256:{A}\n").require_hashes
    with pytest.raises(RequirementsError, match="exclude each other"):
        read("--require-hashes\n--no-require-hashes\n")


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a\nfoo bar\n", 2, 5, "this is not a requirement (PEP 508): Expected"),
        ("   foo bar", 1, 8, "this is not a requirement"),
        ("foo \\\n  >=1 \\\n bar\n", 3, 2, "this is not a requirement"),
        ("foo>=1;python_version>\n", 1, 23, "Expected a marker variable or quoted string"),
        ("foo[a,\n", 1, 7, "this is not a requirement"),
        ("==1\n", 1, 1, "this is not a requirement"),
        ("./local\n", 1, 1, "a requirement by a local path doesn't say which project it is."),
        ("~/x/y\n", 1, 1, "by a local path"),
        ("a/b\n", 1, 1, "by a local path"),
        (".\n", 1, 1, "by a local path"),
        ("C:\\x\\y\n", 1, 1, "by a local path"),
        ("foo-1.0-py3-none-any.whl\n", 1, 1, "by a local path"),
        ("foo-1.0.tar.gz\n", 1, 1, "by a local path"),
        ("https://h.example/foo.whl\n", 1, 1, "a URL needs the project's name in front of it."),
        ("git+https://h.example/foo\n", 1, 1, "a URL needs the project's name in front of it."),
        ("a @ ../x.whl\n", 1, 3, "what follows @ must be a URL"),
        ("a @ https://[bad/x.whl\n", 1, 3, "what follows @ must be a URL"),
        ("-e .\n", 1, 4, "an editable requirement can't be packed"),
        ("--editable=git+https://h/x\n", 1, 12, "an editable requirement can't be packed"),
        ("a --config-settings k=v\n", 1, 21, "--config-settings is not supported"),
        ("a -C k=v\n", 1, 6, "--config-settings is not supported"),
        ("a --pre\n", 1, 3, "--pre must stand on a line of its own."),
        ("a --hash=md5:00\n", 1, 10, "--hash must be ALGORITHM:HEX, with sha256, sha384, sha512."),
        ("a --hash sha256\n", 1, 10, "--hash must be ALGORITHM:HEX"),
        ("a  \\\n --hash=sha256:abc\n", 2, 9, "a sha256 digest has 64 hexadecimal digits."),
        (f"a --hash=sha256:{'g' * 64}\n", 1, 10, "a sha256 digest has 64 hexadecimal digits."),
        (f"--hash=sha256:{A}\n", 1, 8, "--hash stands behind a requirement"),
        ("--hash\n", 1, 1, "--hash needs a value."),
        ("--index-url=\n", 1, 1, "--index-url needs a value."),
        ("--index-url https://\n", 1, 13, "--index-url needs a valid URL."),
        ("--extra-index-url https://h:x/\n", 1, 19, "--extra-index-url needs a valid URL."),
        ("--pre=1\n", 1, 1, "--pre takes no value."),
        ("--no-binary -r\n", 1, 13, "--no-binary needs project names, :all: or :none:."),
        ("--no-deps\n", 1, 1, "a requirements file can't hold this option."),
        ("-x\n", 1, 1, "a requirements file can't hold this option."),
        ("-\n", 1, 1, "a requirements file can't hold this option."),
        ("--no\n", 1, 1, "the option is ambiguous: --no-index or --no-binary or --no-require-hashes."),
        ("--only-final :all:\n", 1, 14, "--only-final is not supported."),
        ("--all-releases :none:\n", 1, 16, "--all-releases is not supported."),
        ("--pre word\n", 1, 7, "nothing but options may follow an option."),
        ("-f a b\n", 1, 6, "nothing but options may follow an option."),
        ("-f 'a\n", 1, 4, "a quotation mark or backslash is not closed."),
        ("-r missing.txt\n", 1, 4, "can't be read: No such file or directory."),
        ("-r file://[\n", 1, 4, "this is not a valid file: URL."),
        ("--constraint \\\n missing.txt\n", 2, 2, "can't be read: No such file or directory."),
        ("-r https://u:secret@h.example/r.txt\n", 1, 4, "a requirements file can't be read from a URL yet."),
    ],
)
def test_errors_say_where(read: Read, tmp_path: Path, text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(RequirementsError) as caught:
        read(text)
    error = caught.value
    assert message in str(error)
    assert (error.line, error.column) == (line, column)
    assert str(error).startswith(f"{tmp_path / 'requirements.txt'}:{line}:{column}: ")
    assert "secret" not in str(error) + error.hint


def test_an_unset_variable_is_named(read: Read) -> None:
    with pytest.raises(RequirementsError) as caught:
        read("a==${VERSION}\n", {"VERSION": ""})
    assert caught.value.hint == "The environment variable VERSION is not set."


def test_columns_count_in_the_file_not_in_what_variables_hold(read: Read) -> None:
    with pytest.raises(RequirementsError) as caught:
        read("a==${V} ${W} what\n", {"V": "1.0.0.0.0.0", "W": ";"})
    assert caught.value.column == 14
    with pytest.raises(RequirementsError) as caught:
        read("a ${V}\n", {"V": "very secret text"})
    assert caught.value.column == 3
    assert "secret" not in str(caught.value)


def test_near_option_is_suggested(read: Read) -> None:
    with pytest.raises(RequirementsError) as caught:
        read("--only-binry :all:\n")
    assert caught.value.hint == "Did you mean --only-binary?"


def test_includes_are_relative_to_the_including_file(tmp_path: Path) -> None:
    (tmp_path / "deep" / "wheels").mkdir(parents=True)
    (tmp_path / "top.txt").write_text("a\n-r deep/more.txt\n-c deep/limits.txt\nz\n")
    (tmp_path / "deep" / "more.txt").write_text("b\n-f wheels\n-r ../base.txt --pre\n")
    (tmp_path / "deep" / "limits.txt").write_text("c<2\n-r ../late.txt\n")
    (tmp_path / "base.txt").write_text("d\n")
    (tmp_path / "late.txt").write_text("e\n")
    (tmp_path / "own.txt").write_text("f==1\n")
    found = read_requirements([str(tmp_path / "top.txt")], constraints=[str(tmp_path / "own.txt")], environ={})
    # pip, too, makes requirements of what a constraints file includes with -r
    assert [(str(line.requirement), line.origin) for line in found.requirements] == [
        ("a", "top.txt:1"),
        ("b", "more.txt:1"),
        ("d", "base.txt:1"),
        ("e", "late.txt:1"),
        ("z", "top.txt:4"),
    ]
    assert [str(line.requirement) for line in found.constraints] == ["c<2", "f==1"]
    assert found.find_links == (str(tmp_path / "deep" / "wheels"),)
    assert found.pre
    assert [name for name, _ in found.sources] == [
        "top.txt",
        "more.txt",
        "base.txt",
        "limits.txt",
        "late.txt",
        "own.txt",
    ]
    answer = ask_pip([tmp_path / "top.txt"])[0]
    assert [text for _, text, _ in answer["lines"]] == ["a", "b", "d", "c<2", "e", "z"]


def test_relative_paths_and_file_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a b.txt").write_text(f"-r file://{tmp_path}/c.txt\n")
    Path("c.txt").write_text("c\nwrong wrong\n")
    with pytest.raises(RequirementsError, match=r"/c\.txt:2:7: "):
        read_requirements(["a b.txt"], environ={})
    Path("r.txt").write_text("-r './a b.txt'\n")
    Path("c.txt").write_text("c\n")
    assert [line.origin for line in read_requirements(["r.txt"], environ={}).requirements] == ["c.txt:1"]


def test_a_file_that_includes_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n-r b.txt\n")
    (tmp_path / "b.txt").write_text("-c ./a.txt\n")
    with pytest.raises(RequirementsError) as caught:
        read_requirements([str(tmp_path / "a.txt")], environ={})
    assert str(caught.value) == f"{tmp_path / 'b.txt'}:1:4: the file includes itself: a.txt → b.txt → a.txt."


def test_the_same_file_twice_is_no_circle(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r b.txt\n-r b.txt\n-c b.txt\n")
    (tmp_path / "b.txt").write_text("x\n")
    found = read_requirements([str(tmp_path / "a.txt")], environ={})
    assert (len(found.requirements), len(found.constraints)) == (2, 1)
    assert [name for name, _ in found.sources] == ["a.txt", "b.txt"]


def test_names_of_sources_differ(tmp_path: Path) -> None:
    for folder in ("x", "y", "z"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "requirements.txt").write_text("a\n")
    paths = [str(tmp_path / folder / "requirements.txt") for folder in "xyz"]
    found = read_requirements(paths, environ={})
    assert [name for name, _ in found.sources] == ["requirements.txt", "requirements-2.txt", "requirements-3.txt"]
    assert [line.origin for line in found.requirements][1] == "requirements-2.txt:1"


def test_constraints_can_not_have_extras(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a\nb[x]<2\n")
    with pytest.raises(RequirementsError, match=r":2:1: a constraint can't have extras\."):
        read_requirements([], constraints=[str(tmp_path / "c.txt")], environ={})


def test_a_first_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match="can't be read: No such file"):
        read_requirements([str(tmp_path / "none.txt")], environ={})
    with pytest.raises(RequirementsError, match="can't be read: Is a directory"):
        read_requirements([str(tmp_path)], environ={})
    with pytest.raises(RequirementsError, match="can't be read: embedded null byte"):
        read_requirements(["a\0b"], environ={})
    with pytest.raises(RequirementsError) as caught:
        read_requirements(["https://u:secret@h.example/r.txt"], environ={})
    assert str(caught.value).startswith("https://u:****@h.example/r.txt: a requirements file can't be read from a URL")


@pytest.mark.parametrize(
    "data",
    [
        "# ☃\ngrün==1".encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + "a\ngrün==1".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "a\ngrün==1".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "a\ngrün==1".encode("utf-32-le"),
        codecs.BOM_UTF32_BE + "a\ngrün==1".encode("utf-32-be"),
        "# -*- coding: latin-1 -*-\ngrün==1".encode("latin-1"),
        "#\n# vim: set fileencoding=cp1252 :\ngrün==1".encode("cp1252"),
    ],
)
def test_encodings(read: Read, data: bytes) -> None:
    text = data.replace("ü".encode(), b"u") if data.startswith(codecs.BOM_UTF8) else data
    with pytest.raises(RequirementsError, match="not a requirement"):
        read(data)  # decoded, and ü is not a letter for a project's name
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1"):
        text = text.replace("ü".encode(encoding), "u".encode(encoding))
    assert str(read(text).requirements[-1].requirement) == "grun==1"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are Unicode there")
def test_a_file_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfcn.txt")
    Path(path).write_text("foo")
    found = read_requirements([path], environ={})
    assert [name for name, _ in found.sources] == ["gr\ufffdn.txt"]
    assert found.requirements[0].origin == "gr\ufffdn.txt:1"


@pytest.mark.parametrize("text", ["foo=1.0", "foo[bar] = 1.0", "foo-bar =2 ; python_version > '3'"])
def test_one_equals_sign_is_no_pin(read: Read, text: str) -> None:
    with pytest.raises(RequirementsError, match="not a requirement") as caught:
        read(text)
    assert caught.value.hint == "To pin a version, write ==."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\xff\n", "the file is not text in utf-8."),
        (b"# coding: ascii\n\xc3\xbc\n", "the file is not text in ascii."),
        (b"# coding: klingon\na\n", "'klingon' is not a known text encoding."),
        (b"# coding: rot13\na\n", "'rot13' is not a known text encoding."),
        (codecs.BOM_UTF16_LE + b"a", "the file is not text in utf-16-le."),
    ],
)
def test_text_that_can_not_be_decoded(read: Read, data: bytes, message: str) -> None:
    with pytest.raises(RequirementsError) as caught:
        read(data)
    assert message in str(caught.value)


def test_sources_are_as_written_without_secrets(read: Read) -> None:
    text = (
        "--index-url https://bob:secret@i.example/simple # https://x:secret@y/\n"
        "--extra-index-url https://${USER}:${TOKEN}@e.example/\r\n"
        "-f https://f.example/?token=secret\n"
        "a @ git+ssh://git@h.example/a@main\n"
        "-i https://bob:\\\nsecret@i.example\n"
        "# https://[secret@x/\n"
    )
    environ = {"USER": "bob", "TOKEN": "secret"}
    found = read(text, environ)
    assert found.extra_index_urls == ("https://bob:secret@e.example/",)
    ((name, kept),) = found.sources
    assert name == "requirements.txt"
    assert "secret" not in kept
    assert "--index-url https://bob:****@i.example/simple # https://x:****@y/\n" in kept
    assert "https://${USER}:****@e.example/\r\n" in kept
    assert "-f https://f.example/?****\n" in kept


names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True).filter(
    lambda name: not name.lower().endswith((".zip", ".whl", ".tar", ".tgz", ".tbz", ".txz", ".tlz"))
)
versions = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}((a|b|rc|\.post|\.dev)[0-9])?", fullmatch=True)
specifiers = st.lists(st.tuples(st.sampled_from(["==", ">=", "<=", "!=", ">", "<"]), versions), max_size=3).map(
    lambda pairs: ",".join(map("".join, pairs))
)
markers = st.sampled_from(["", "; python_version >= '3.9'", ' ; sys_platform == "win32" and extra == "x"'])
digests = st.sampled_from([("sha256", 64), ("sha384", 96), ("sha512", 128)]).flatmap(
    lambda kind: st.text("0123456789abcdef", min_size=kind[1], max_size=kind[1]).map(lambda hex: f"{kind[0]}:{hex}")  # noqa: A006
)
breaks = st.sampled_from([" ", "  ", " \\\n", " \\\n    "])
comments = st.sampled_from(["", "  # why", "\t#"])


@st.composite
def requirement_lines(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    extras = draw(st.lists(names, max_size=2, unique=True))
    text = draw(names) + (f"[{','.join(extras)}]" if extras else "") + draw(specifiers) + draw(markers)
    hashes = draw(st.lists(digests, max_size=2, unique=True))
    options = "".join(f"{draw(breaks)}--hash{draw(st.sampled_from('= '))}{digest}" for digest in hashes)
    return text + options + draw(comments), text, hashes


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.lists(requirement_lines(), max_size=5), newline=st.sampled_from(["\n", "\r\n"]))
def test_valid_files_come_back_as_they_were_meant(
    read: Read, lines: list[tuple[str, str, list[str]]], newline: str
) -> None:
    text = "\n".join(["# generated", *(written for written, _, _ in lines), ""])
    found = read(text.replace("\n", newline))
    assert [line.requirement for line in found.requirements] == [Requirement(meant) for _, meant, _ in lines]
    assert [list(line.hashes) for line in found.requirements] == [hashes for _, _, hashes in lines]


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(files=st.lists(st.lists(requirement_lines(), max_size=4), min_size=20, max_size=20))
def test_valid_files_are_what_pip_reads(tmp_path: Path, files: list[list[tuple[str, str, list[str]]]]) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(len(files))]
    for path, lines in zip(paths, files, strict=True):
        path.write_text("".join(f"{written}\n" for written, _, _ in lines))
    for path, answer in zip(paths, ask_pip(paths), strict=True):
        assert as_pip_says(read_requirements([str(path)], environ={})) == normalized(answer)


words = [
    "--hash=sha256:",
    "-r",
    "-c",
    "--index-url",
    "--no-binary",
    ":all:",
    "--",
    "-",
    "a==1",
    "@",
    "https://",
    "[",
    "]",
]
marks = [
    "(",
    ")",
    "==",
    ";",
    "python_version",
    "${A}",
    "${B}",
    "#",
    "'",
    '"',
    "\\",
    "\\\n",
    "\n",
    "\r",
    " ",
    ",",
    "\0",
    "\ufeff",
]
fragments = st.sampled_from([*words, *marks])


def refused(read: Read, data: bytes) -> RequirementsError | None:
    """Read *data*; the error if it is refused. Anything but a RequirementsError fails the test."""
    try:
        read(data, {"A": "x y", "B": "--pre"})
    except RequirementsError as error:
        return error
    return None


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.one_of(st.text(), st.lists(st.one_of(fragments, st.text(max_size=3))).map("".join)))
@example("a; " + "(" * 5000)
@example("a==1; python_version == '\\")
@example("-r \x00")
@example("-r file://[")
@example("-r https://[")
@example("a @ https://h:x/")
@example("\\\\\\")
def test_any_text_is_read_or_refused(read: Read, text: str) -> None:
    error = refused(read, text.encode("utf-8", "surrogatepass"))
    if error is not None and error.line:
        lines = text.splitlines()
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary())
@example(b"# coding: utf-7\n+AGE-")
@example(b"# coding: idna\na\n")
@example(b"# coding: undefined\na\n")
def test_any_bytes_are_read_or_refused(read: Read, data: bytes) -> None:
    error = refused(read, data)
    assert error is None or error.file
