"""Lightning's training loop, without any output or files of its own."""

from __future__ import annotations

import atexit
import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from typing_extensions import override

from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.errors import RecipeError

__all__ = ["SameOnAllProcesses", "interruptible", "make_loop", "quiet"]


def make_loop(options: Training, trainer: TrainerOptions, callbacks: list[Callback]) -> lightning.Trainer:
    """A loop of the given number of steps, without loggers, bars or checkpoints of its own.

    Raises:
        RecipeError: the trainer options are not possible here.
    """
    try:
        loop = lightning.Trainer(
            max_steps=options.steps,
            max_epochs=-1,
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            strategy=trainer.strategy,
            precision=trainer.precision,  # type: ignore[arg-type]
            num_nodes=trainer.num_nodes,
            gradient_clip_val=options.gradient_clip,
            callbacks=callbacks,
            # A single device concerns only this process, even if a launcher has started several.
            plugins=[LightningEnvironment()] if trainer.devices == 1 and trainer.num_nodes == 1 else None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            inference_mode=False,
        )
    except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
        raise RecipeError(f"trainer: {' '.join(str(error).split())}") from None
    strategy = loop.strategy
    if isinstance(strategy, SingleDeviceStrategy) or (
        isinstance(strategy, DDPStrategy) and strategy._start_method == "popen"
    ):
        return loop
    raise RecipeError(
        f"trainer.strategy {trainer.strategy!r} with {trainer.devices} devices is not supported: use 'ddp', which runs "
        "the command or script again in a process for each device"
    )


@contextlib.contextmanager
def interruptible(loop: lightning.Trainer) -> Iterator[None]:
    """Let an interruption stay one: Lightning turns it into a plain exit and leaves the signal ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if loop.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM) from None
        if error.code == 1 and loop.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


class SameOnAllProcesses(Callback):
    """Gives all processes of DDP the same running statistics of batch norms; their weights are the same anyway."""

    @override
    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Take the statistics of the main process."""
        if trainer.world_size > 1:
            for tensor in module.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
            atexit.unregister(_leave_group)
            atexit.register(_leave_group)


def _leave_group() -> None:
    """Lightning leaves NCCL's group at the end of the program, but not Gloo's, whose threads then abort it at times."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning, which would report hardware and hints once per training; a run reports its own stages."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
