"""The smallest flow worth running: three tasks that greet, one that counts. `python flows/hello/flow.py` runs it here."""

from levada import flow, get_run_logger, task


@task
def greet(name: str) -> str:
    """Say hello to somebody."""
    get_run_logger().info("Hello, %s!", name)
    return f"Hello, {name}!"


@task
def count(greetings: list[str]) -> int:
    """Count what was said."""
    return len(greetings)


@flow
def hello_flow(names: list[str] | None = None) -> int:
    """Greet everybody at the same time and return how many they were."""
    greetings = [greet.submit(name) for name in names or ["Madeira", "Kubernetes", "world"]]
    total: int = count.submit(greetings).result()
    return total


if __name__ == "__main__":
    hello_flow()
