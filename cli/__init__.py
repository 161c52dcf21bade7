"""The ``hindsight`` command: one thin module per subcommand, ``main(argv) -> int``."""
