"""The data plane: everything that listens on a port or speaks to the legacy on behalf of a client."""
