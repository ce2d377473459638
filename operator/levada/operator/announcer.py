"""Tells of the news of runs by Events: a listener of the controller. What is worth telling, decide/announcements.py says."""

from levada.decide.announcements import NOTHING_NEW, announcements, task_pod_event, task_pod_news
from levada.decide.facts import RunView
from levada.operator.events import About
from levada.operator.herald import Herald
from levada.operator.store import Key, Store
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS


class Announcer:
    """Passes on what is worth telling."""

    def __init__(self, herald: Herald, store: Store) -> None:
        self._herald = herald
        self._store = store

    def on_news(self, before: RunView | None, after: RunView | None) -> None:
        """A run changed."""
        self._tell_of_task_pods(before, after)
        news = announcements(before, after)
        if news is NOTHING_NEW or after is None:
            return
        self._herald.tell(about_run(after), news.of_run)
        deployment = self._store.deployments.get(Key(after.namespace, after.deployment))
        if news.of_deployment is not None and deployment is not None:
            about = About(DEPLOYMENTS, deployment.namespace, deployment.name, deployment.uid)
            self._herald.count(about, news.of_deployment)

    def _tell_of_task_pods(self, before: RunView | None, after: RunView | None) -> None:
        for entry in task_pod_news(before, after):
            assert after is not None
            event = task_pod_event(after, entry)
            if event is not None:
                self._herald.tell(about_run(after), (event,))


def about_run(run: RunView) -> About:
    """The run as an Event names it."""
    return About(FLOW_RUNS, run.namespace, run.name, run.uid)
