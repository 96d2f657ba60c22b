"""Runs the same observe, plan and apply without a cluster: a folder for the API, subprocesses for Jobs."""
