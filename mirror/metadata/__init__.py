"""Core metadata: ``core`` parses it, ``wheel`` and ``sdist`` find it in files, ``reader`` gets it from an index."""
