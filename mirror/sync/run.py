"""One round of one job, whichever side it is on: locked, and with its status written whatever happens."""

from __future__ import annotations

from collections.abc import Callable

from mirror.config import Config, SyncSettings
from mirror.errors import AirgapError
from mirror.models import Reporter, Target
from mirror.signing import signer
from mirror.sync.connected import run_connected
from mirror.sync.files import explained, one_at_a_time
from mirror.sync.isolated import OpenPublisher, run_isolated
from mirror.sync.outcome import Outcome, Say, write_status
from mirror.sync.state import folder_of


def run_sync(
    settings: SyncSettings,
    config: Config,
    *,
    named_targets: Callable[[tuple[str, ...]], tuple[Target, ...]],
    open_publisher: OpenPublisher,
    report: Reporter,
    say: Say,
    full: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Run one round and return what it did; an error of airgap is an outcome too, with its exit code.

    Raises a StorageError where another run of the same job is under way or the state can't be written.
    """
    folder = folder_of(config, settings.name)
    with one_at_a_time(folder / "lock", f"airgap sync {settings.name}"):
        try:
            with explained(folder):
                if settings.connected:
                    targets = named_targets(settings.targets)
                    outcome = run_connected(
                        settings, config, folder, targets, report=report, say=say, full=full, dry_run=dry_run
                    )
                else:
                    sign = signer(config.receipts.sign_key)
                    outcome = run_isolated(
                        settings, folder, open_publisher, report=report, say=say, sign=sign, dry_run=dry_run
                    )
        except AirgapError as error:
            outcome = Outcome.of(error, settings, dry_run=dry_run)
        if not dry_run:
            write_status(folder, outcome, settings.inbox)
    return outcome
