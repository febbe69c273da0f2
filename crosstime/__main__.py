"""``python -m crosstime``, for ``torchrun -m crosstime``."""

from crosstime.cli.main import main

if __name__ == "__main__":
    main()
