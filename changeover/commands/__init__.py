"""The sub-commands, one module each; what a command needs is imported when it runs, so that --help stays fast."""
