"""The control plane: what objects declare becomes processes, and what is seen becomes status.

Here belong pure functions from (objects, what is observed) to (status, what to do next), and the
thin parts that keep objects, answer the API and carry decisions out. Times are RFC 3339 text in
objects and seconds since the epoch in decisions; no function here reads a clock unless its name
says so.

Here does not belong: reading data. Control speaks to workers through `fluidpy.client` only.
"""
