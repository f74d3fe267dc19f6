"""Many mounts, one tree: what a Dataset means, and what is known of its files.

`definition` holds the values a Dataset comes down to, `resolve` makes them from YAML objects or a
bare URL, `tree` lays mounts out as one tree, `catalog` reads and `catalog_writer` writes the
SQLite file that remembers every path, `namespace` lists sources when something is asked that is
unknown or stale. `cache_keys` and `object_keys` name the bytes of a row in the cache. No bytes of
files pass here, and nothing here knows of sockets or FUSE.
"""
