"""The vocabulary that operator and worker share: kinds, stage contract, conditions, names, digests.

Depends on pydantic alone, and imports neither side.
"""
