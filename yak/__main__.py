"""`python -m yak` is `yak`."""

from yak.cli import main

if __name__ == "__main__":
    main()
