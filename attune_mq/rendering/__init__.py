"""Pictures of topologies: Mermaid, DOT and SVG, all without a program that has to be installed."""

from attune_mq.rendering.dot import to_dot
from attune_mq.rendering.marks import Finding
from attune_mq.rendering.mermaid import to_mermaid
from attune_mq.rendering.svg import to_svg

__all__ = ["Finding", "to_dot", "to_mermaid", "to_svg"]
