"""From CC100's files to language-aligned chunks of packed blocks.

One document's way: `sources` finds its file, `read` streams it, `clean` (with `mend`, `scripts` and `identify`) mends
or drops it, `gather` keeps it on disk (`partition`), `mix` says how much of its language is wanted, `draw` takes
duplicates out, `chunk` says where it goes, `store` writes it. `language` makes two tasks of this, `executors` and
`cluster` run them, `build` drives all; `pack` makes blocks of the ids that `encode` gives, `blocks` reads them,
`verify` proves all.
"""
