"""What fluidpy tells about itself: log lines and counters.

Here belongs how a process logs (`logs`) and the one table of counters (`counters`). Exporters
come on top of that table; nothing here knows what a Dataset is, and no secret, path or user name
is ever the label of a counter.
"""
