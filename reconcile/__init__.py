"""The proof: does the legacy hold what the log says it should, and how sure is that?"""
