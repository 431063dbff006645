"""The proof: is the state that the events add up to equal to the state that the legacy reports?"""
