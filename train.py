"""`python train.py loss=mae optimizer=adam`: the same as the installed command `losslab-train`."""

from losslab.__main__ import train

if __name__ == "__main__":
    train()
