import sys

from alignment_worker.python_grader.server import main

sys.exit(main())
