"""The periodic job on both sides of the gap: numbered bundles one way, receipts the other, one run at a time.

::

    connected                                        isolated
    outbox/plant-000007.tar.zst, .txt    ── carried ──▸   inbox/ ─▸ repository, done/ or quarantine/
    inbox/plant-main-000004.receipt.json ◂── carried ──   outbox/

``state`` holds what a side remembers and ``files`` is how it touches the disk, the lock of a round among it; ``run`` is
one round, ``outcome`` what it found. ``connected`` and ``isolated`` are the sides. On the connected one, ``post`` opens
``receipts``, ``decision`` says what is due, and ``slip`` is the text beside a bundle.
"""
