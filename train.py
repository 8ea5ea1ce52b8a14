"""`python train.py loss=mae optimizer=adam`: the same as the installed command `losslab-train`."""

from losslab.cli import train

if __name__ == "__main__":
    train()
