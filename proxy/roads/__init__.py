"""The roads a mutation may travel on, each with its own way of reading what became of the calls."""
