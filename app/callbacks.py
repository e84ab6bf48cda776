"""What happens on the page: a file arrives, a slice is chosen, the page is closed."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from app.result import Result, View, map_file
from app.uploads import noted, one_of, received
from datasets.prediction_dataset import Input
from datasets.readers.formats import shown
from engine.predictor import Prediction, Predictor
from utils.errors import UserError


class Callbacks:
    """Results by session: each is kept until the next one, or until its page is closed.

    Args:
        predictor: Scores what arrives.
        folder: Where maps to download are written.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self._predictor, self._folder = predictor, folder
        self._results: dict[str, Result] = {}

    def score(self, files: Sequence[Path], session: str, *, keep: bool = False) -> Iterator[View]:
        """Score the files of one picture or one volume.

        Args:
            files: At least one.
            session: Whose result it becomes, instead of the one before.
            keep: Leave the files where they are; uploads are removed.

        Yields:
            The progress, then the result or what is wrong.
        """
        self.close(session)
        yield {"done": 0, "total": 0}
        try:
            with nullcontext(list(files)) if keep else received(files) as sources:
                name = shown(Path(files[0].name)) if len(files) == 1 else f"{len(files)} files"
                yield from self._score(sources, name, session)
        except UserError as error:
            yield {"error": str(error)}

    def turn_to(self, number: int, session: str) -> View:
        """Show a slice of the volume that was scored."""
        result = self._results.get(session)
        if result is None:
            return {"error": "this volume is no longer in memory; please upload it again"}
        return result.view(min(max(number, 0), len(result.slices) - 1), self._predictor)

    def close(self, session: str) -> None:
        """Delete a session's result."""
        result = self._results.pop(session, None)
        if result is not None:
            shutil.rmtree(result.map_file.parent)

    def _score(self, sources: Sequence[Path], name: str, session: str) -> Iterator[View]:
        with noted(sources) as notes:
            samples = one_of(self._predictor, sources)
        slices: list[tuple[Input, Prediction | None]] = []
        for each in self._predictor.slices(samples):
            slices.append(each)
            yield {"done": len(slices), "total": len(samples)}
        is_volume = samples[0].volume_name is not None
        volume = self._predictor.join(slices) if is_volume else None
        prediction = volume or slices[0][1]
        assert prediction is not None
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        source = Path("series" if samples[0].series else samples[0].path.name)
        result = Result(name, slices, volume, map_file(folder, source, prediction), notes)
        self._results[session] = result
        try:
            yield result.view(result.first, self._predictor)
        except GeneratorExit:
            # The page was closed before it could show this: nothing else will remove it.
            self.close(session)
            raise
