"""The control plane: what objects declare becomes processes, and what is seen becomes status.

Here belong: the objects as they were declared (`object_store`, `object_lifecycle`), what may be
declared (`admission`), the interface they are declared by (`api_server`), pure functions from
(objects, what is observed) to (status, what to do next), and the thin parts that carry decisions
out, as one process (`daemon`). Times are RFC 3339 text in objects and seconds since the epoch in
decisions; no function here reads a clock unless its name says so.

Here does not belong: reading data. Workers and mounts are processes of their own, which control
speaks to through `fluidpy.client` only; they go on while no control plane runs, and the next one
takes them over.
"""
