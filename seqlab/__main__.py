"""`python -m seqlab`, which `torchrun -m seqlab` runs in every process."""

from seqlab.cli import main

if __name__ == "__main__":
    main()
