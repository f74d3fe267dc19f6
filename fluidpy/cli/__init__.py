"""The command line: commands, printers, progress.

One module a group of commands; each turns arguments into calls of the layers below and their
answers into text. Decisions about data belong to those layers, never here. What prints rows is in
`printers`, what draws bars in `progress`, what finds a Dataset in `datasets`, and only `main` turns
errors into messages and exit codes. Heavy libraries are imported inside commands, so that `--help`
and shell completion answer at once.
"""
