"""Plain manifests in k8s/, rendered by helm from the chart: `python -m tools.render_kubernetes [--check]`.

One file an object, in a folder a service, and a kustomization that names them all, so that `kubectl apply -k k8s/`
does what `helm install` does. What needs KEDA or the Prometheus operator stands in components of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import yaml

from tools.rendered import Rendered

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "kappawatt"
OUT = ROOT / "k8s"
VALUES = OUT / "values.yaml"  # written by hand: how the plain manifests differ from the chart's defaults
RENDERED = Rendered(OUT, ("README.md", VALUES.name))
RELEASE = NAMESPACE = "kappawatt"
MARK = "# Made by `make render` from charts/kappawatt; edit the chart instead.\n"
COMPONENTS = {"keda.sh": "keda", "monitoring.coreos.com": "monitoring"}

Document = dict[str, Any]


def render() -> list[Document]:
    """Return what helm makes of the chart as it would on a cluster with everything installed."""
    helm = shutil.which("helm")
    if helm is None:
        raise click.ClickException("helm: got nothing on PATH, allowed Helm 3.14 or newer (https://helm.sh)")
    versions = [f"--api-versions={api}" for api in ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")]
    command = [helm, "template", RELEASE, str(CHART), "-n", NAMESPACE, "-f", str(VALUES), "--skip-tests", *versions]
    made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if made.returncode:
        raise click.ClickException(made.stderr.strip())
    documents = [document for document in yaml.safe_load_all(made.stdout) if document]
    return [each for each in documents if each["metadata"]["labels"]["app.kubernetes.io/component"] != "test"]


def component_of(document: Document) -> str | None:
    """Return the component an object of a custom resource belongs to, None for Kubernetes' own kinds."""
    return COMPONENTS.get(document["apiVersion"].partition("/")[0])


def plain(document: Document) -> Document:
    """Return the object without what only helm has a use for."""
    labels = document["metadata"]["labels"]
    labels.pop("helm.sh/chart", None)
    labels["app.kubernetes.io/managed-by"] = "kustomize"
    return document


def files() -> dict[str, str]:
    """Return everything below k8s/ by path."""
    written: dict[str, str] = {}
    resources: dict[str | None, list[str]] = {None: ["namespace.yaml"]}
    written["namespace.yaml"] = _text(_namespace())
    for document in map(plain, render()):
        part = component_of(document)
        owner = document["metadata"]["labels"]["app.kubernetes.io/name"]
        kind = document["kind"].lower()
        name = document["metadata"]["name"].removeprefix(f"{RELEASE}-")
        suffix = name.removeprefix(owner).strip("-")
        folder = f"components/{part}/" if part else ""
        if part:  # a component's own `namespace` would move everything of the overlay that includes it
            document["metadata"]["namespace"] = NAMESPACE
        path = f"{owner}-{kind}.yaml" if part else f"{owner}/{'-'.join(filter(None, [suffix, kind]))}.yaml"
        assert folder + path not in written, folder + path
        written[folder + path] = _text(document)
        resources.setdefault(part, []).append(path)
    for part, paths in resources.items():
        written[f"components/{part}/kustomization.yaml" if part else "kustomization.yaml"] = _text(
            {
                "apiVersion": "kustomize.config.k8s.io/v1alpha1" if part else "kustomize.config.k8s.io/v1beta1",
                "kind": "Component" if part else "Kustomization",
                **({} if part else {"namespace": NAMESPACE}),
                "resources": sorted(paths, key=lambda path: (path != "namespace.yaml", path)),
            }
        )
    return written


def _namespace() -> Document:
    level = "pod-security.kubernetes.io"
    labels = {"app.kubernetes.io/part-of": "kappawatt", f"{level}/enforce": "restricted", f"{level}/warn": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _text(document: Document) -> str:
    return MARK + yaml.safe_dump(document, sort_keys=False, width=120)


main = RENDERED.command(__doc__, files)

if __name__ == "__main__":
    main()
