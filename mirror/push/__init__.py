"""Push: bring a bundle's files into a hosted repository, exactly and completely."""
