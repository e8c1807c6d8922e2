"""What each target would install: resolvelib's search over index pages and metadata."""

from mirror.resolver.protocols import Index, MetadataSource, ProjectPage
from mirror.resolver.resolve import Resolution

__all__ = ["Index", "MetadataSource", "ProjectPage", "Resolution"]
