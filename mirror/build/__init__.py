"""Building in isolation what the user named: the only modules that run code from a package, and git.

``source`` unpacks an sdist or makes one from a source tree, ``environment`` makes the virtual environment that a build
runs in, ``backend`` calls the build backend (PEP 517), ``git`` gets a commit.
"""
