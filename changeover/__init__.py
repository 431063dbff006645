"""The front door: the `changeover` command, its settings and the demo."""
