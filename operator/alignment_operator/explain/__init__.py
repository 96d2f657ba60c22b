"""From iterations that were decided to words and numbers for people. Pure, as the gates are."""
