"""The resource types of `data.fluid.io/v1alpha1`, and how they are read, checked and written.

Here belong: one model a kind with Fluid's own field names (`dataset`, `operations`, `runtimes`),
the small value types they share (`quantity`, `duration`, `metadata`, `conditions`), the registry of
kinds (`kinds`), the YAML loader (`document`), checks that need more than one field (`validation`),
JSON Schema (`schema`) and writing back (`serialisation`).

Here does not belong: anything that acts on an object, opens a socket or knows a cluster. Modules
import pydantic and PyYAML only, and nothing is re-exported here, so that importing one costs what
that one needs.
"""
