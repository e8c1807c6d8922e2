"""Simple repository indexes: ``simple`` parses and renders pages (pure), ``client`` fetches and caches them."""
