"""Topologies from and to RabbitMQ's own definitions JSON.

Source: https://www.rabbitmq.com/docs/definitions.
"""

from attune_mq.definitions.exporting import export_definitions, left_out_of_export
from attune_mq.definitions.importing import Imported, import_definitions
from attune_mq.definitions.json_text import InvalidDefinitions

__all__ = [
    "Imported",
    "InvalidDefinitions",
    "export_definitions",
    "import_definitions",
    "left_out_of_export",
]
