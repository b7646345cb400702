"""The text of a file with small networks, good and bad, that the tests of the command line write and name."""

NETS = '''
import os, sys
from pathlib import Path
import torch
from torch import nn
from polykern.models import Subject
from polykern.models.digits import Digits, network

def net():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)]
    return Held(*layers)

class Held(nn.Sequential):
    """Waits, and says so, when the run in the folder that HOLD names has recorded a band."""
    def forward(self, x):
        place = os.environ.get("HOLD")
        if place and any(Path(place, "parts").glob("*.npz")):
            sys.stdout.write("held\\n")
            sys.stdout.flush()
            sys.stdin.read()
        return super().forward(x)

def other():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

def wide():
    return nn.Sequential(nn.Linear(6, 3000), nn.ReLU(), nn.Linear(3000, 3))

def straight():
    return nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))

def diverged():
    model = other()
    model[2].weight.data[0, 0] = float("nan")
    return model

def pixels():
    model = network()
    test = Digits.test()
    return Subject(model, "pixels", "random weights: NOT a trained network", test.images[:1], test)
'''
