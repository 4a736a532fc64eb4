"""``python -m attune_mq`` is ``attune-mq``."""

from attune_mq.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
