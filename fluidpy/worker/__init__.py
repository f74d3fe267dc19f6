"""The worker: this machine's one owner of stores and catalogs for one user, and its only fetcher.

Here belongs what turns requests on the unix socket into bytes in the cache: the process and its
socket, attached Datasets, open handles, fills (single flight), read-ahead (pure), loads. What a
block, an entry or a source is belongs to `cache`, `namespace` and `storage`; the messages belong to
`client.protocol`. Everything runs on one asyncio loop; threads only write to disk.
"""
