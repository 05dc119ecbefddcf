"""Errors with a name, so that callers can tell them apart; each message says what to do about it."""

from __future__ import annotations


class MlcalcError(Exception):
    """Base class of every error this package raises on purpose."""


class SettingsError(MlcalcError, ValueError):
    """An option that does not exist, or asks for what a potential cannot do."""


class UnknownElementError(MlcalcError, ValueError):
    """A structure holds an element (or a mixture) the potential was not trained on."""


class NonFiniteError(MlcalcError, ArithmeticError):
    """Positions, cell, energies or forces are NaN or infinite."""


class OverlapError(MlcalcError, ValueError):
    """Atoms lie (almost) on top of each other."""


class ExtrapolationError(MlcalcError, ValueError):
    """Atoms' environments lie farther from the training set than the user allows."""


class ExtrapolationWarning(UserWarning):
    """Atoms' environments lie far from the training set: energies and forces are extrapolations."""


class OutOfMemoryError(MlcalcError, MemoryError):
    """A structure does not fit into memory, even alone."""


class ModelFileError(MlcalcError, ValueError):
    """A model file is missing, damaged, foreign, or does not reproduce its own reference."""


class CompilerError(MlcalcError, RuntimeError):
    """C++ sources cannot be compiled here."""


class PluginError(CompilerError):
    """The LAMMPS plugin cannot be found, built or loaded."""


class TrainingError(MlcalcError, ValueError):
    """Training data or settings that cannot work."""


class WorkflowError(MlcalcError, RuntimeError):
    """A workflow cannot start or go on."""


class CrystalError(MlcalcError, ValueError):
    """A structure cannot be described as a crystal, or a description of one makes no sense."""


class CodecError(CrystalError):
    """A crystal does not fit into a codec's array, or an array describes no crystal."""


class GeneratorError(MlcalcError, ValueError):
    """A generator cannot meet its constraints, or gave up after a stated number of attempts."""


class LammpsError(MlcalcError, RuntimeError):
    """LAMMPS is not installed, stopped with an error, or cannot hold a structure."""


class RemoteError(MlcalcError, RuntimeError):
    """A calculator in another environment failed on a structure; the message ends with the traceback from there."""


class RemoteStartError(RemoteError):
    """A calculator in another environment cannot be imported or made there, or not in time."""


class RemoteRestartWarning(UserWarning):
    """The process of a calculator in another environment was started anew."""


class RemoteLostError(RemoteError):
    """The process of a calculator in another environment ended, or did not answer in time."""
