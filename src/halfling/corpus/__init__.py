"""From CC100's files to language-aligned chunks of packed blocks.

One document's way: `sources` finds its file, `read` streams it, `clean` mends or drops it, `survey` notes it,
`mix` says how much of its language is wanted, `chunk` says where it goes, `store` writes it (`build` drives
all of these); `pack` makes blocks of the ids that `encode` gives, `blocks` reads them, `verify` proves all.
"""
