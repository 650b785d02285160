"""`python -m renderformer`: the program, as `renderformer`."""

from renderformer.cli.main import main

if __name__ == "__main__":
    main()
