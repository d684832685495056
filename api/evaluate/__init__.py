"""How good is it? A BEIR folder in, one table of four stages out (`longleaf eval`).

`beir` reads the folder, `run` asks a `StagedSearch` every judged query, `metrics` and `spans` score
the answers, `trec` reads and writes run files, `report` shows the result. Nothing here knows how
documents are stored or found.
"""
