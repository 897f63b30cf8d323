"""What a user's own module of networks may hold; tests copy it to where they run commands."""

from torch import nn


class Net(nn.Module):
    def __init__(self, width: int = 4, classes: int = 2):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.layer1(self.stem(x)).mean((2, 3)))


class Alpha(nn.Module):  # takes images with transparency
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.body(x).mean((2, 3))


class Other(nn.Module):
    def __init__(self, classes: int = 2):
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))


def build(width: int = 6, classes: int = 2) -> nn.Module:
    return Net(width, classes)


def called(title: str, width: int = 4) -> nn.Module:
    assert title == "007"
    return Net(width)


def unsaid(width=6):
    return Net(width)


def number() -> int:
    return 3
