"""Networks of other libraries: one file a library, imported only when it is asked for.

Each has ``open_network(name, weights) -> Opened``.
"""
