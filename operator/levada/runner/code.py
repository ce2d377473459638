"""Where the runner gets the flow from: the same loading as `levada run` and served deployments use."""

from levada._loading import CodeError, find_file, load_flow, pick_flow

__all__ = ["CodeError", "find_file", "load_flow", "pick_flow"]
