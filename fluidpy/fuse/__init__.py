"""A Dataset as a directory: the kernel's FUSE protocol, spoken by ourselves.

Here: the kernel's structures (`kernel`), how a connection is negotiated (`negotiation`), entries as
attributes and directory blocks (`attributes`, `directory_blocks`), the event loop with its two
sides, the kernel (`device`, `session`, `directories`, `files`) and the worker (`worker_link`), the
two processes of a mount (`holder`, `server`), and mounting, unmounting and listing (`mounting`).
Not here: fetching and keeping bytes (`fluidpy.worker`, `fluidpy.cache`), what a path is
(`fluidpy.namespace`), and the commands of a user (`fluidpy.cli`).

Two processes a mount. The *holder* is tiny and owns the device fd; it starts the *server*, which
answers the kernel. A node id is computed from a catalog row and READ needs no file handle, so a
server has no state that another one could not take over.
"""
