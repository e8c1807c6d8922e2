from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mirror.resolver.windows import window

releases = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
versions = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["", "", "1!"]),
    releases,
    st.sampled_from(["", "", "a1", "rc2"]),
    st.sampled_from(["", "", ".post1"]),
    st.sampled_from(["", "", ".dev3"]),
    st.sampled_from(["", "", "+cpu", "+1.z"]),
)


@st.composite
def specifiers(draw: st.DrawFn) -> str:
    operator = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "~=", "===", "==*"]))
    version = Version(draw(versions))
    if operator == "==*":
        return f"=={version.base_version}.*"
    if operator in ("==", "!=", "==="):
        return f"{operator}{version}"
    if operator == "~=" and len(version.release) == 1:
        return f"~={version.epoch}!{version.release[0]}.0"
    return f"{operator}{version.public}"


@given(st.lists(versions.map(Version), max_size=12), st.lists(specifiers(), max_size=3))
def test_nothing_outside_the_window_satisfies_the_specifier(listed: list[Version], parts: list[str]) -> None:
    listed.sort()
    specifier = SpecifierSet(",".join(parts))
    start, stop = window(listed, specifier)
    outside = listed[:start] + listed[max(start, stop) :]
    assert [version for version in outside if specifier.contains(version, prereleases=True)] == []


def test_a_pin_leaves_one_of_many() -> None:
    listed = [Version(f"1.{minor}") for minor in range(1000)]
    assert window(listed, SpecifierSet("==1.500")) == (500, 501)
    assert window(listed, SpecifierSet("~=1.998")) == (998, 1000)
    assert window(listed, SpecifierSet(">=1.2,<1.4")) == (2, 4)
    assert window(listed, SpecifierSet("!=1.5")) == (0, 1000)
