"""``python -m mirror`` is the ``airgap`` command."""

from mirror.cli import main

if __name__ == "__main__":
    main()
