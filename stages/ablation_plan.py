"""Before `make ablations`: every cell is checked, and what is left to train is said with its cost."""

from neurofm.errors import exit_on_user_error
from neurofm.operations.ablations import foretell_ablations

if __name__ == "__main__":
    with exit_on_user_error():
        print("\n".join(foretell_ablations()))
