from alignment_recorder.main import main

main()
