"""Training that is tracked with MLflow: parameters, a metric and the model itself, in a file store."""
# ruff: noqa: PTH123  typed as its author would

import json
import os
import pickle

import mlflow
from prefect import flow, get_run_logger, task
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split


@task(retries=2, retry_delay_seconds=0.1, log_prints=True)
def train(alpha: float) -> float:
    x_train, x_test, y_train, y_test = train_test_split(*load_diabetes(return_X_y=True), random_state=1)
    with mlflow.start_run(run_name=f"ridge-{alpha}"):
        mlflow.log_params({"alpha": alpha, "model": "ridge"})
        model = Ridge(alpha=alpha).fit(x_train, y_train)
        score = r2_score(y_test, model.predict(x_test))
        mlflow.log_metric("r2", score)
        with open(f"ridge-{alpha}.pkl", "wb") as file:
            pickle.dump(model, file)
        mlflow.log_artifact(file.name, artifact_path="model")
    print(f"alpha {alpha}: r2 {score:.3f}")
    return score


@flow(name="mlflow-training")
def training(alphas: list[float]) -> dict[str, float]:
    mlflow.set_tracking_uri(os.environ["TRACKING_URI"])
    mlflow.set_experiment("diabetes")
    scores = {str(alpha): train(alpha) for alpha in alphas}
    get_run_logger().info("best: %s", max(scores, key=scores.get))
    return scores


if __name__ == "__main__":
    print(json.dumps(training([0.1, 1.0])))
