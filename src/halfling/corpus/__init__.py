"""Text alone: from CC100's files to language-aligned chunks of clean documents.

A document's way: `sources` finds and reads its file, `filters` mend or drop it, `ingest` keeps it on disk
(`partition`), `quota` says how much of its language is wanted, `dedup` takes duplicates out, `split` says which chunk
it goes to, `store` writes it. `steps` makes two tasks a language of this, `executors` run them, `build` drives all;
`plan` says beforehand what is taken, `card` describes the result, `verify` proves it.
"""
