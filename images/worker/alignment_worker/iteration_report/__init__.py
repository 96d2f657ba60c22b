"""`python -m alignment_worker.iteration_report`: reads the store for a person who asks.

An iteration as an HTML page, or what the stages of several reported; by modules of `ingestion`, in what two revisions
of a dataset differ, and which rows of one are nearest to some words.

    __main__  the command: config in, answer out
    reading   what iterations left in the store, verified by the stages' manifests
    page      pure: from rows to what the page says
    charts    pure: figures as SVG
    html      the template's filling

Only a search loads torch, and nothing is written into the store.
"""
