"""The logger of `logger=mlflow`."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from losslab.record.client import is_fault, reason

RUN = "losslab.run"  # the tag by which a resumed run finds itself


class MlflowLogger(MLFlowLogger):
    """Lightning's MLflow logger, for runs that are resumed and servers that go away.

    Args:
        id: of the run. A run that is resumed goes on in MLflow as the same run.
        more: for Lightning's logger.
    """

    def __init__(self, id: str, **more: Any) -> None:
        super().__init__(tags={RUN: id}, **more)
        self.id, self.lost = id, False

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the settings, once: MLflow refuses to change them."""
        client = self._mlflow_client
        if found := client.get_experiment_by_name(self._experiment_name):
            runs = client.search_runs([found.experiment_id], f"tags.`{RUN}` = '{self.id}'", max_results=1)
            if runs:
                self._run_id = runs[0].info.run_id
                client.set_terminated(self._run_id, "RUNNING")
                return
        super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one row of numbers."""
        self.attempt(super().log_metrics, metrics, step)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """End the run."""
        self.attempt(super().finalize, status)

    def attempt(self, send: Callable[..., None], *what: Any) -> None:
        """Send something; if the server has gone away, say so once, and send nothing more."""
        if self.lost:
            return
        try:
            send(*what)
        except Exception as error:
            if not is_fault(error):
                raise
            self.lost = True
            says = "training goes on without it, and the run's folder has everything"
            print(f"MLflow stopped taking this run ({reason(error)}): {says}", file=sys.stderr, flush=True)
