"""Extrapolation grade: how far an atom's environment lies from those a network was trained on."""

import torch
from torch import Tensor, nn

# Grades above this are worth a warning: above 1 lies what is farther from the training set than any part of it, and
# atoms of validation frames of the potentials that ship reach 1.5.
FAR = 1.5


class ExtrapolationGrade(nn.Module):
    """Distance to the nearest training environment, in units of how far training environments lie apart.

    Environments are points in the space of the network's own descriptors. Distances are Mahalanobis distances with one
    covariance for all elements (Lee et al., NeurIPS 2018), measured to the nearest of a few training environments of
    the same element (distance in latent space: Janet et al., Chem. Sci. 10, 7913 (2019), doi:10.1039/C9SC02298H) that
    were picked by farthest-point sampling. Divided by the largest such distance of any training atom of that element,
    so that no training environment has a grade above 1.

    Buffers are fitted by ``mlcalc.training.extrapolation.fit_grade``.

    Args:
        n_elements: K.
        n_descriptors: D.
        landmarks: training environments kept for each element, M.
    """

    def __init__(self, n_elements: int, n_descriptors: int, landmarks: int) -> None:
        super().__init__()
        self.shift = nn.Buffer(torch.zeros(n_descriptors))
        self.metric = nn.Buffer(torch.eye(n_descriptors))
        self.landmarks = nn.Buffer(torch.zeros(n_elements, landmarks, n_descriptors))
        self.radius = nn.Buffer(torch.ones(n_elements))

    def forward(self, descriptors: Tensor, species: Tensor) -> Tensor:
        """Return grades (N,) of descriptors (N, D) of atoms of ``species`` (N,).

        In float64 throughout: near a landmark squares of distances are small differences of large numbers.
        """
        n_elements, n_landmarks = self.landmarks.shape[0], self.landmarks.shape[1]
        points = torch.matmul(descriptors.double() - self.shift.double(), self.metric.double())
        landmarks = self.landmarks.flatten(0, 1).double()
        products = torch.matmul(points, landmarks.t())
        squares = points.square().sum(1, keepdim=True) + landmarks.square().sum(1) - 2.0 * products
        nearest = torch.amin(squares.reshape(-1, n_elements, n_landmarks), dim=2)
        nearest = nearest.gather(1, species.unsqueeze(1)).squeeze(1)
        return (torch.sqrt(torch.clamp(nearest, min=0.0)) / self.radius[species]).to(descriptors.dtype)
