"""Diagrams of topologies: Mermaid, DOT and SVG, drawn without an external program."""

from attune_mq.rendering.diagram import Finding
from attune_mq.rendering.dot import to_dot
from attune_mq.rendering.mermaid import to_mermaid
from attune_mq.rendering.svg import to_svg

__all__ = ["Finding", "to_dot", "to_mermaid", "to_svg"]
