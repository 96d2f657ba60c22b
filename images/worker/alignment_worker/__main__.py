import sys

from alignment_worker.main import main

sys.exit(main())
