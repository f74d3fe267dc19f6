"""Runtimes: the engine that caches a Dataset, one module a kind.

`components` has the structs several kinds share, `tiered_store` the cache levels, `status` what is
seen of a runtime. A runtime serves the Dataset of its own name and namespace.
"""
