"""The periodic job on both sides of the gap: numbered bundles one way, receipts the other, one run at a time.

::

    connected                                        isolated
    outbox/plant-000007.tar.zst, .txt    ── carried ──▸   inbox/ ─▸ repository, done/ or quarantine/
    inbox/plant-main-000004.receipt.json ◂── carried ──   outbox/

``state`` holds what a side remembers, ``lock`` and ``files`` are how it touches the disk, ``receipts`` what the other
side confirmed, ``connected`` and ``isolated`` one round each, ``status`` what monitoring reads.
"""
