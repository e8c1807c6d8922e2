"""TLS contexts, and what a refused certificate means in words."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

from mirror.errors import ConfigError, TLSError

# OpenSSL's X509_V_ERR_* codes that a person can act on.
_EXPIRED, _NOT_YET_VALID = 10, 9
_SELF_SIGNED = frozenset({18, 19})
_UNKNOWN_ISSUER = frozenset({2, 20, 21, 27})
_WRONG_HOST = frozenset({62, 64})


def make_context(ca_bundle: Path | None, client_cert: Path | None, *, verify: bool = True) -> ssl.SSLContext:
    """Return a client's context: the certificates in *ca_bundle* (file or folder), else those of the system."""
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_bundle is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if ca_bundle.is_dir():
                context.load_verify_locations(capath=str(ca_bundle))
            else:
                context.load_verify_locations(cafile=str(ca_bundle))
        except OSError as error:
            raise ConfigError(
                f"The certificate bundle {ca_bundle} can't be used: {error.strerror or error}.",
                hint="--cert (pip's cert) wants a PEM file of certificates, or a folder that c_rehash prepared.",
            ) from error
    else:
        context = _system_context()
    if client_cert is not None:
        try:
            context.load_cert_chain(str(client_cert))
        except OSError as error:
            raise ConfigError(
                f"The client certificate {client_cert} can't be used: {error.strerror or error}.",
                hint="--client-cert wants one PEM file that holds the private key, unencrypted, and the certificate.",
            ) from error
    return context


def _system_context() -> ssl.SSLContext:
    paths = ssl.get_default_verify_paths()
    if sys.platform not in ("darwin", "win32") and paths.cafile is not None:
        # What truststore does here too, but it parses the whole file again for each connection and lets only one
        # handshake run at a time.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_default_verify_paths()
        return context
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def find(error: BaseException) -> ssl.SSLError | None:
    """Return the TLS error that *error* was made from, or None. A connection that ended is not one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return None
        if isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def explain(error: ssl.SSLError, url: str, host: str) -> TLSError:
    """Return what *error* means for a request to *url* (already redacted)."""
    remedy = "Give the authority's certificate with --cert (pip's cert), or name the host with --trusted-host."
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code == _EXPIRED:
            what, remedy = "its certificate has expired", f"Have it renewed, or name the host: --trusted-host {host}"
        elif code == _NOT_YET_VALID:
            what, remedy = "its certificate is not valid yet", "Check this machine's clock."
        elif code in _SELF_SIGNED:
            what = "its certificate is self-signed, or its authority is not trusted here"
        elif code in _UNKNOWN_ISSUER:
            what = "its certificate comes from an issuer that is not trusted here"
        elif code in _WRONG_HOST or "hostname" in str(error).lower():
            what = f"its certificate is for another hostname than {host}"
            remedy = f"Use the name that the certificate carries, or name the host: --trusted-host {host}"
        else:
            what = f"its certificate was refused ({error.verify_message or error.reason})"
        return TLSError(f"{url}: {what}.", hint=remedy)
    if error.reason == "WRONG_VERSION_NUMBER":
        return TLSError(f"{url}: the server does not speak TLS on this port.", hint="Should the URL say http://?")
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return TLSError(
        f"{url}: the TLS handshake failed ({reason}).",
        hint="The server may want a client certificate (--client-cert) or another TLS version.",
    )
