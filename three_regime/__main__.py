"""``python -m three_regime``."""

from three_regime.cli import main

if __name__ == "__main__":
    main()
