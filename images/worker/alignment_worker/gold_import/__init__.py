"""A gold set from files of other tools: `python -m alignment_worker.gold_import`, which `alignctl gold` calls.

Loads neither torch nor numpy.
"""
