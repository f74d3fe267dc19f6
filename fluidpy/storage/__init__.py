"""Under storages: where training data lies, behind one small protocol.

Here belong the protocol (`under_storage`), one module a driver (object stores, local directories,
claims, HTTP, fsspec), the option names they understand, and the decorators that add retries and
limits to any of them. `factory.open_storage` is the one door. Nothing here knows of Datasets,
caches or mounts to the kernel; nothing here writes to a source.
"""
