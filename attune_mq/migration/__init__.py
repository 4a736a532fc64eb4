"""Changing in place what RabbitMQ does not change in place; see :mod:`.migrating`."""
