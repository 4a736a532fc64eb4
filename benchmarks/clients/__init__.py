"""One module for each client. A measurement is a process of its own, see :mod:`__main__`."""
