"""The tRPC wire, v10 and v11, as pure functions: bytes and frozen values in, frozen values and bytes out."""
