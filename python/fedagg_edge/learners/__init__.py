"""The things that train. torch and TFLite runtimes are imported only below this package."""

from __future__ import annotations

from fedagg_edge.learners.base import LearnerFactory

__all__ = ["learner_factory"]


def learner_factory(engine: str, base_dir: str) -> LearnerFactory:
    """The factory behind an engine's name: ``torch``, ``tflite``, ``executorch``, or a user's ``module:function``."""
    if engine == "torch":
        from fedagg_edge.learners.torch import make_learner  # noqa: PLC0415  # torch loads when it is wanted

        return make_learner
    if engine == "tflite":
        from fedagg_edge.learners.tflite_factory import make_learner as make_tflite_learner  # noqa: PLC0415

        return make_tflite_learner
    if engine == "executorch":
        from fedagg_edge.learners.executorch_factory import make_learner as make_executorch_learner  # noqa: PLC0415

        return make_executorch_learner
    from fedagg_edge.plugins import load_object  # noqa: PLC0415

    factory: LearnerFactory = load_object(engine, base_dir=base_dir)
    return factory
