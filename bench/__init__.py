"""Benchmarks, the demo and the acceptance run: what looks at Sleeve from outside."""

import pipeline  # noqa: F401  -- before numpy is loaded, since it says how many threads that may use
