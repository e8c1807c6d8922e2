"""``airgap sync``."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from mirror.cli.progress import progress
from mirror.cli.units import table

if TYPE_CHECKING:
    from mirror.config import Config, SyncSettings
    from mirror.push.publisher import Publisher


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--status", is_flag=True, help="Show the last rounds instead of running one.")
@click.option(
    "--max-age", type=float, metavar="HOURS", help="With --status: exit code 1 where the last success is older."
)
@click.option("--full", is_flag=True, help="Connected side: write a full bundle now, whatever receipts confirm.")
@click.option("--dry-run", is_flag=True, help="Say what would be written or pushed; change nothing on either side.")
@click.option("as_json", "--json", is_flag=True, help="Log as JSON lines on standard output, the result as the last.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what is happening.")
@click.pass_context
def sync(
    context: click.Context,
    names: tuple[str, ...],
    status: bool,
    max_age: float | None,
    full: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run one round of each job NAME, a [sync.NAME] in airgap.toml; without a name, of all of them.

    The connected side takes receipts from its inbox, resolves, and writes the next numbered bundle where something is
    new. The isolated side takes bundles from its inbox, verifies and pushes them, and writes receipts. Made for cron:
    one run of a job at a time (exit code 8), and running it again goes on where the last run stopped.

    Exit codes are those of pack and push: 0 done or nothing new, 3 no resolution, 4 network, 5 a damaged bundle went
    into quarantine, 6 something waits for another bundle or is not pushed, 7 conflict, 8 storage or another run. With
    several jobs it is that of the first that failed.
    """
    from mirror.cli.settings import configured

    if max_age is not None and not status:
        raise click.UsageError("--max-age needs --status.")
    config = configured()
    jobs = _jobs(config, names)
    if status:
        context.exit(_show(config, jobs, max_age, as_json=as_json))
    codes = [
        _run(config, job, full=full, dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose) for job in jobs
    ]
    context.exit(next(filter(None, codes), 0))


def _run(
    config: Config, job: SyncSettings, *, full: bool, dry_run: bool, as_json: bool, quiet: bool, verbose: bool
) -> int:
    from mirror.cli.push import open_publisher
    from mirror.errors import AirgapError
    from mirror.ops.machines import machines
    from mirror.sync.outcome import Outcome
    from mirror.sync.run import run_sync

    say = _log(job.name, as_json=as_json, quiet=quiet)
    with progress(quiet=quiet or as_json, verbose=verbose) as report:

        def publisher(name: str) -> AbstractContextManager[Publisher]:
            return open_publisher(name, config, report=report)

        try:
            outcome = run_sync(
                job,
                config,
                named_targets=lambda names: machines(config, names=names),
                open_publisher=publisher,
                report=report,
                say=say,
                full=full,
                dry_run=dry_run,
            )
        except AirgapError as error:  # the next job may do better
            outcome = Outcome.of(error, job, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"time": _now(), "sync": job.name, "result": vars(outcome)}))
    else:
        say("warning" if outcome.exit_code else "info", f"{outcome.message} (exit code {outcome.exit_code})")
    return outcome.exit_code


def _jobs(config: Config, names: tuple[str, ...]) -> list[SyncSettings]:
    from mirror.errors import ConfigError

    if not config.syncs:
        raise ConfigError("No airgap.toml with a [sync.NAME] was found.", hint="See docs/howto-sync.md.")
    for name in names:
        if name not in config.syncs:
            raise ConfigError(f"There is no [sync.{name}].", hint=f"Known are: {', '.join(sorted(config.syncs))}.")
    return [config.syncs[name] for name in names or sorted(config.syncs)]


def _log(name: str, *, as_json: bool, quiet: bool) -> Callable[[str, str], None]:
    def say(level: str, text: str) -> None:
        if as_json:
            click.echo(json.dumps({"time": _now(), "sync": name, "level": level, "text": text}))
        elif level == "warning" or not quiet:
            mark = "warning: " if level == "warning" else ""
            for line in text.splitlines():
                click.echo(f"{_now()} {name}: {mark}{line}", err=True)

    return say


def _show(config: Config, jobs: list[SyncSettings], max_age: float | None, *, as_json: bool) -> int:
    """Print the status of *jobs*; return the exit code of the first whose last round failed or is too old."""
    from mirror.sync.outcome import read_status
    from mirror.sync.state import folder_of

    found: list[dict[str, Any]] = []
    code = 0
    for job in jobs:
        status = read_status(folder_of(config, job.name)) or {"name": job.name, "side": job.side, "age": None}
        # A success that is yet to come was noted by a clock that was wrong: nobody knows how old it is.
        late = max_age is not None and (status["age"] is None or not 0 <= status["age"] <= max_age * 3600)
        status["late"] = late
        code = code or status.get("exit_code", 0) or int(late)
        found.append(status)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return code
    for status in found:
        rows = [
            ("job", f"{status['name']} ({status['side']})"),
            ("last run", status.get("last-run") or "never"),
            ("last success", f"{status.get('last-success') or 'never'}{_ago(status['age'])}"),
            ("result", f"{status.get('message', '-')} (exit code {status.get('exit_code', '-')})"),
            ("pending", ", ".join(status.get("pending", ())) or "-"),
            ("unconfirmed", f"{status['unconfirmed']} files" if status.get("unconfirmed") else "-"),
            ("to ask for", ", ".join(status.get("asked", ())) or "-"),
            ("quarantine", ", ".join(status.get("in-quarantine", ())) or "-"),
        ]
        click.echo("\n".join(table(rows)))
    return code


def _ago(age: float | None) -> str:
    if age is None:
        return ""
    return f", {age / 3600:.1f} hours ago" if age < 48 * 3600 else f", {age / 86400:.1f} days ago"


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
