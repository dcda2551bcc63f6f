"""From records to what people read: results.csv, a table in Markdown, plots and one page.

Reads records only; imports neither torch nor models. The way: `gather` (files to rows), `summary` and `headline` (rows
to numbers), `tables`, `plots`, `words` and `page` (numbers to forms), `build` (the stage).
"""
