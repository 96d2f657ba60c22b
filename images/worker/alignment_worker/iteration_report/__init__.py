"""`python -m alignment_worker.iteration_report`: one iteration as an HTML page, from what its stages left in the store.

    __main__  the command: config in, page or results out
    reading   the only module that opens the store; what it opens is verified by the stages' manifests
    page      pure: from rows to what the page says
    charts    pure: figures as SVG
    html      the template's filling

It imports neither torch nor transformers, and writes nothing into the store.
"""
