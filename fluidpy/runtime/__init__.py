"""Runtimes: who makes a Dataset's data readable, as plug-ins behind one small seam.

Here belong the seam (`driver`), what a plug-in says of itself (`manifest`, the file
`runtime.yaml`), where plug-ins are found (`discovery`), how one is installed, and the drivers
that turn declarations into processes and mounts to be read. Drivers are functions of values: they
say what is to run and what to read, and start nothing themselves.

Here does not belong: running what drivers ask for (`fluidpy.control`), reading data
(`fluidpy.worker`), and under storages, which know nothing of manifests: an installed storage
plug-in is known to the worker by the record that `installing` writes.
"""
