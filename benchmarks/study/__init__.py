"""The quality study: systems trained for equal minutes on the same text, and ablations.

A row (`study.rows`) is one training run of one system on one corpus; running it (`study.run`)
leaves one JSON; the tables of ``docs/quality.md`` are written from those (`study.tables`).
"""
