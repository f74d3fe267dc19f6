"""The machine's store of cached bytes: sparse files in tiers, and the index of what they hold.

Here belongs what keeps, finds, checks and evicts blocks on this machine. What fetches them
(`fluidpy.worker`), what names them (`fluidpy.namespace`) and what shows them (`fluidpy.fuse`,
`fluidpy.client`) does not: this package knows keys, sizes and bytes, never paths or sources.

* `tier`, `directory`: where files may lie, and the checks of a directory before it is used;
* `presence`, `accounting`, `eviction`: pure decisions on blocks, bytes and victims;
* `index`, `index_schema`: the SQLite file that says which blocks are there, with a crc32c each;
* `cache_file`, `object_files`, `filling`, `cached_object`: one sparse file; one object version made
  of one or more of them; the side its fetchers use; the side its readers use;
* `file_table`, `room`: the files in memory, opened, checked, dropped; which leave for others;
* `store`: the whole, as its owner sees it; `start_up`, `demotion`, `reconciliation`, `scrubbing`:
  what goes on beside;
* `cached_files`: complete files as other processes of the user open them, without their owner.
"""
