"""What ``limbeck distill`` says when it is done, and writes beside the student for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limbeck.core.graph import DGM
    from limbeck.models import DDIM

__all__ = ["tell", "tell_pipeline", "tell_weights"]


def tell(metrics: dict[str, float], out: Path) -> None:
    """Say how large both are, how long it took and where the student is.

    Args:
        metrics: of :class:`limbeck.Distilled`.
        out: the student's directory.
    """
    from rich.console import Console

    console = Console()
    teacher, student = metrics["parameters_teacher"], metrics["parameters_student"]
    console.print(
        f"{teacher:,.0f} generative parameters distilled into {student:,.0f} "
        f"({teacher / student:.1f} times fewer) in {metrics['seconds']:.0f} s; last loss {metrics['total']:.4g}.",
        highlight=False,
    )
    console.print(f"Student: {out}", soft_wrap=True, highlight=False)


def tell_weights(student: DGM, path: Path) -> None:
    """Keep a student of zuko's also as zuko itself reads it.

    Args:
        student: any model; others are left alone.
        path: the file.
    """
    from rich.console import Console

    from limbeck.models import ZukoFlow

    if isinstance(student, ZukoFlow) and student.standardize is None:
        student.save_zuko(path)
        Console().print(f"Its weights under zuko's names: {path}", soft_wrap=True, highlight=False)


def tell_pipeline(student: DDIM, path: Path) -> None:
    """Keep a diffusion student also as diffusers reads it.

    Args:
        student: the model.
        path: the pipeline's directory.
    """
    from rich.console import Console

    from limbeck.models.diffusion.writing import CODE

    student.save_pipeline(path)
    own = (path / CODE).exists()
    how = "DiffusionPipeline.from_pretrained(DIR, custom_pipeline=DIR, trust_remote_code=True)()"
    if not own:
        how = f"DDIMPipeline.from_pretrained(DIR)(num_inference_steps={len(student.timesteps)})"
    Console().print(f"As a pipeline of diffusers: {path}; {how}", soft_wrap=True, highlight=False, markup=False)
