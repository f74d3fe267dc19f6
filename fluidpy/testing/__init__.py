"""Tools to prove a storage or a plug-in: conformance suites, a fault injector, a pytest plug-in.

Shipped, so that the author of a driver can use what the project uses on itself. Here belong
suites and fixtures; real servers to test against are in `fluidpy.testing.servers`.
"""
