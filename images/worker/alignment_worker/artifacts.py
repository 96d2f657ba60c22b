"""Names of the files that one stage leaves for another, inside its run's folder."""

SAMPLES = "samples.jsonl"  # of `sample`, read by `judge`
PAIRS = "pairs.jsonl"  # of `judge` and `ingest`, read by `train`, `reward` and `judge`
PROMPTS = "prompts.jsonl"  # of `ingest`, read by `sample`, and by `train` for PPO
BEST = "best.jsonl"  # of `judge`, read by `train` for BestOfN
ANSWERS = "answers.jsonl"  # of `evaluate`, read by `compare`
GOLD_ANSWERS = "gold.jsonl"  # of `evaluate`; these three are read by the report
GOLD_KEYS = "gold-keys.json"  # of `evaluate`, read by that of a later iteration
COMPARISONS = "comparisons.jsonl"  # of `compare`
TRAINING_LOG = "training-log.jsonl"  # of `train`
NEAR_DUPLICATES = "near-duplicates.jsonl"  # train
