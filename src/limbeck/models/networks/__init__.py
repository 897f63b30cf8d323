"""Classifiers of images as plain modules, one family a file; none of them knows of graphs or of distillation.

Each returns logits of shape (batch, classes), ends in a linear layer, takes plain JSON values, and names in
``feature_paths`` the modules whose outputs are its hidden features: four, from the input to the head, unless its
arguments say otherwise.
"""

from limbeck.models.networks.conv_net import ConvNet
from limbeck.models.networks.lenet import LeNet
from limbeck.models.networks.mlp import MLP
from limbeck.models.networks.resnet import ResNet
from limbeck.models.networks.vgg9 import VGG9
from limbeck.models.networks.wide_resnet import WideResNet

__all__ = ["MLP", "VGG9", "ConvNet", "LeNet", "ResNet", "WideResNet"]
