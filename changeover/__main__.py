"""`python -m changeover` is the `changeover` command."""

from changeover.cli import main

main()
