"""`python train.py loss=mae optimizer=adam`: the same as the installed command `losslab-train`."""

from losslab.train import main

if __name__ == "__main__":
    main()
