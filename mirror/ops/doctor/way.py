"""The way to a server: DNS, TCP, proxy, TLS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from mirror.errors import AirgapError, TLSError
from mirror.net import Settings, probe
from mirror.net.certificates import Certificate, misplaced, read_certificate
from mirror.net.probe import proxy_for
from mirror.ops.doctor.finding import Finding, Level
from mirror.urls import origin, redact

#: A certificate that ends within these is told.
SOON = timedelta(days=30)


def connection(url: str, settings: Settings, chain_file: Path | None) -> Iterator[Finding]:
    """Check name, port, proxy and TLS of the server behind *url*; the certificates it sends go into *chain_file*."""
    scheme, host, port = origin(url)
    proxy = proxy_for(url, settings)
    if proxy is not None:
        # What the machine at hand can't resolve or reach, the proxy may.
        yield _proxy(host, proxy, settings)
        return
    try:
        found = probe.addresses(host, port)
    except OSError as error:
        yield Finding(
            "DNS",
            Level.PROBLEM,
            f"{host} has no address here: {error.strerror or error}.",
            "Check the name, this machine's resolver, or whether a proxy is needed (HTTPS_PROXY).",
        )
        return
    yield Finding("DNS", Level.FINE, f"{host} is {', '.join(found)}.")
    try:
        probe.connect(host, port, settings.timeout)
    except OSError as error:
        yield Finding(
            "TCP",
            Level.PROBLEM,
            f"Nobody takes connections on {host} port {port}: {error.strerror or error}.",
            "Check the port in the URL, whether the server runs, and the firewall in between.",
        )
        return
    yield Finding("TCP", Level.FINE, f"{host} takes connections on port {port}.")
    if scheme == "https":
        yield from _tls(url, settings, chain_file)


def _proxy(host: str, proxy: str, settings: Settings) -> Finding:
    text = f"Requests to {host} go through {redact(proxy)}"
    scheme, server, port = origin(proxy)
    if scheme in ("http", "https"):
        try:
            probe.connect(server, port, settings.timeout)
        except OSError as error:
            remedy = (
                "Correct it where airgap config says that it comes from (HTTPS_PROXY, HTTP_PROXY, --proxy, pip.conf), "
                f"or name hosts that need none in NO_PROXY: {host}"
            )
            text += f", which takes no connections: {error.strerror or error}."
            return Finding("proxy", Level.PROBLEM, text, remedy)
    return Finding("proxy", Level.FINE, f"{text}.")


def _tls(url: str, settings: Settings, chain_file: Path | None) -> Iterator[Finding]:
    _, host, port = origin(url)
    try:
        shaken = probe.handshake(url, settings)
    except (AirgapError, OSError) as error:
        yield Finding("TLS", Level.PROBLEM, str(error), error.hint if isinstance(error, AirgapError) else "")
        return
    if chain_file is not None and shaken.chain:
        chain_file.write_text(shaken.pem(), encoding="ascii")
        yield Finding("TLS", Level.FINE, f"The {len(shaken.chain)} certificates that {host} sends are in {chain_file}.")
    chain = _certificates(shaken.chain)
    wrong = misplaced(chain) if chain else ""
    trusted_anyway = not {host, f"{host}:{port}"}.isdisjoint(settings.trusted_hosts)
    if shaken.error is not None and not trusted_anyway:
        yield _refused(shaken.error, chain, wrong)
        return
    yield Finding("TLS", Level.FINE, f"{host} speaks {shaken.version}, its certificate is accepted.")
    if wrong and len(chain) > 1:  # one alone may well be signed by an authority that every client knows
        remedy = "Other clients will refuse it: have its administrator complete the chain."
        yield Finding("TLS", Level.NOTE, f"{host} is trusted here, but {wrong}.", remedy)
    for item in chain[:1]:
        if not _over(item) and item.not_after < datetime.now(timezone.utc) + SOON:
            text = f"The certificate of {host} ends on {item.not_after:%Y-%m-%d}."
            yield Finding("TLS", Level.NOTE, text, "Have it renewed before.")


def _refused(error: TLSError, chain: Sequence[Certificate], wrong: str) -> Finding:
    """Why the server is not trusted, with what its certificates say of it."""
    told = [f"that of {item.subject} ended on {item.not_after:%Y-%m-%d}" for item in chain if _over(item)]
    remedy = error.hint
    if "another hostname" in str(error):
        told += [f"the first is for {', '.join(item.names) or item.subject}" for item in chain[:1]]
    elif chain and "not trusted here" in str(error):
        told.append(wrong or f"the last is signed by {chain[-1].issuer}")
        if wrong and len(chain) == 1:
            remedy = (
                f"If {chain[0].issuer} is your authority, give its certificate with --cert (pip's cert). If it is one "
                "in between, have the server's administrator complete its chain."
            )
        elif wrong:
            remedy = f"Have the server's administrator complete its chain. {remedy}"
    listed = "; ".join(told)
    return Finding("TLS", Level.PROBLEM, f"{error}{f' Of its certificates: {listed}.' if told else ''}", remedy)


def _certificates(chain: tuple[bytes, ...]) -> list[Certificate]:
    try:
        return [read_certificate(der) for der in chain]
    except ValueError:
        return []


def _over(certificate: Certificate) -> bool:
    return certificate.not_after < datetime.now(timezone.utc)
