"""The use cases, for people who call airgap from Python; the command line is a thin layer over these modules."""
