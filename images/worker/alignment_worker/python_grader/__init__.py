"""The grader Python: runs model-written code, and says whether it passes a test program.

    client      in the worker: asks, and believes nothing but true or false
    server      `python -m alignment_worker.python_grader`, in a container of its own; starts for each program
    examiner    a process that runs the test program, and
    candidate   another that runs the completion; both in
    sandbox     what no program can leave
    exchange    what passes between the two: plain values, and references to objects that stay where they are

All but the client load nothing but the standard library. docs/python-grader.md says what is kept from whom.
"""
