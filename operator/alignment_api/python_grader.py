"""How the worker and the grader Python find each other in their pod."""

FOLDER = "/alignment/grader"
SOCKET = f"{FOLDER}/socket"
SOCKET_VARIABLE = "ALIGNMENT_GRADER_SOCKET"  # in the worker; absent without a cluster
