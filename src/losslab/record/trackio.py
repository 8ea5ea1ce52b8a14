"""The logger of `logger=trackio`."""

import contextlib
import io
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only


class TrackioLogger(Logger):
    """A Lightning logger that writes to Trackio.

    Args:
        project: in Trackio.
        name: of the run. A run that is continued goes on under its name.
        folder: where Trackio keeps its files, unless TRACKIO_DIR is set.
        server_url: of a server to send to, instead of the folder.

    Source: https://github.com/gradio-app/trackio
    """

    def __init__(
        self, project: str, name: str, folder: str, group: str | None = None, server_url: str | None = None
    ) -> None:
        super().__init__()
        self.project, self.run, self.group, self.server_url = project, name, group, server_url
        self.settings: dict[str, Any] = {}
        self.begun: Any = None
        os.environ.setdefault("TRACKIO_DIR", os.path.realpath(folder))  # it is read when the package is imported

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str:
        """The run."""
        return self.run

    @property
    def experiment(self) -> Any:
        """The run, begun again if it was ended: Lightning ends it before it is tested."""
        if self.begun is None:
            with contextlib.redirect_stdout(io.StringIO()):  # it greets
                import trackio

                self.begun = trackio.init(
                    self.project,
                    self.run,
                    group=self.group,
                    server_url=self.server_url,
                    config=self.settings,
                    resume="allow",
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
        return self.begun

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Begin the run, with its settings."""
        self.settings = vars(params) if isinstance(params, Namespace) else params
        self.experiment  # noqa: B018 - begins it

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one row of numbers."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, and wait until all is written."""
        if self.begun is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                import trackio

                untyped: Any = trackio  # as it is where it is not installed
                untyped.finish()
            self.begun = None
