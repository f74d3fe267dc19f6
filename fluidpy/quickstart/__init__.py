"""`python -m fluidpy.quickstart`: three stores as one Dataset, read cold and warm, in a minute.

Here belong the example's own parts: a small data set (`data_set`), a store of one's own as an
fsspec class (`archive_store`) and how a worker finds it (`plugin_folder`), the Dataset's YAML
(`declaration`), directories and commands of one run (`place`), the readers whose times are taken
(`readers`), the tables (`report`) and the run itself (`walkthrough`). It uses fluidpy as anybody
does: by its commands and `fluid://` URLs. Nothing else may import it.
"""
