"""How a process of this machine speaks to the worker, and opens what the worker hands over.

Here: the protocol's wire form (`protocol`), starting a worker (`start`, `background_start`), one
blocking connection a thread (`connection`), a Dataset as a session of lookups and open files
(`session`, `file`), and finding a Dataset by name (`locate`). Not here: fsspec's face
(`fluidpy.filesystem`), the kernel's (`fluidpy.fuse`), and the worker's own side of the socket
(`fluidpy.worker`).

Modules here import no pydantic, no asyncio and no object-store library, so that a training process
that forks stays safe and starts fast.
"""
