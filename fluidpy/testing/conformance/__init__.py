"""`fluidpy runtime test`: what every plug-in has to do, checked on this machine within a minute.

Here belong the report (`report`), the store with known files that a plug-in is tested on (`bed`),
and the clauses: for storage plug-ins in a process of their own (`storage_clauses`,
`storage_process`), from outside and through a real worker (`storage`, `worker_clauses`), and for
mount plug-ins (`mount`). A clause is a promise with a cure: what it says is read by the author of
the plug-in, who knows his store and not fluidpy. Needs no pytest.
"""
