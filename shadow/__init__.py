"""The new side: contract, events, log, journal, state and stages; knows nothing of HTTP."""
