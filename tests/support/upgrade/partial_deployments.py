# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Deployment, and parts of one that are merged into it as the API server's strategic merge patch does."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
NAME = "snapshot-controller"


def base() -> Object:
    """Return the Deployment of a release."""
    labels = {"app.kubernetes.io/name": NAME}
    container = {
        "name": NAME,
        "image": "registry.example.com/snapshot-controller:v8.7.0",
        "args": ["--v=5", "--leader-election=true"],
        "env": [{"name": "FIRST", "value": "1"}, {"name": "SECOND", "value": "2"}],
        "ports": [{"containerPort": 8443, "protocol": "TCP", "name": "https"}],
        "resources": {"requests": {"cpu": "10m", "memory": "20Mi"}},
        "volumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": NAME,
        "containers": [container],
        "volumes": [{"name": "certs", "secret": {"secretName": "hook-tls"}}],
        "tolerations": [{"key": "old", "operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": "default", "labels": dict(labels)},
        "spec": {
            "replicas": 2,
            "minReadySeconds": 35,
            "selector": {"matchLabels": dict(labels)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def of_pods(**fields: Any) -> Object:
    return {"spec": {"template": {"spec": fields}}}


def of_container(**fields: Any) -> Object:
    return of_pods(containers=[{"name": NAME, **fields}])


_INIT = {"name": "wait", "image": "registry.example.com/wait:1"}
_AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]
        }
    }
}
# Names of labels that are also names of lists.
_ENVIRONMENT = {"matchLabels": {"env": "prod", "ports": "web", "containers": "one"}}
_APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": _ENVIRONMENT}
        ]
    }
}
_SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
MERGED: dict[str, Object] = {
    "nothing": {},
    "replicas": {"spec": {"replicas": 5}},
    "a field that is removed": {"spec": {"minReadySeconds": None}},
    "a field that does not exist is removed": of_pods(priorityClassName=None),
    "labels of the Deployment": {"metadata": {"labels": {"team": "storage"}}},
    "a label of the Deployment is replaced": {"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}},
    "annotations of both": {
        "metadata": {"annotations": {"example.com/a": "1"}},
        "spec": {"template": {"metadata": {"annotations": {"example.com/b": "2"}, "labels": {"team": "storage"}}}},
    },
    "a strategy": {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1}}}},
    "another strategy": {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}},
    "a node selector": of_pods(nodeSelector={"node-role.kubernetes.io/control-plane": ""}),
    "tolerations replace": of_pods(tolerations=[{"key": "new", "operator": "Exists"}, {"operator": "Exists"}]),
    "no tolerations": of_pods(tolerations=[]),
    "affinity": of_pods(affinity=_AFFINITY),
    "affinity by a label env": of_pods(affinity=_APART),
    "topology spread by a label env": of_pods(topologySpreadConstraints=[{**_SPREAD, "labelSelector": _ENVIRONMENT}]),
    "attributes of a CSI volume": of_pods(
        volumes=[{"name": "data", "csi": {"driver": "csi.example.com", "volumeAttributes": {"volumes": "a", "env": "b"}}}]
    ),
    "labels and annotations named as lists": {
        "metadata": {"labels": {"env": "prod"}, "annotations": {"ports": "80"}},
        "spec": {"template": {"metadata": {"labels": {"env": "prod"}, "annotations": {"volumes": "a"}}}},
    },
    "priority": of_pods(priorityClassName="system-cluster-critical"),
    "pull secrets": of_pods(imagePullSecrets=[{"name": "mirror"}, {"name": "other"}]),
    "topology spread": of_pods(topologySpreadConstraints=[_SPREAD]),
    "a security context of the pods": of_pods(securityContext={"runAsUser": 1000, "fsGroup": 1000}),
    "an added init container": of_pods(initContainers=[_INIT]),
    "a host alias": of_pods(hostAliases=[{"ip": "192.0.2.1", "hostnames": ["api.example.com"]}]),
    "an added volume": of_pods(volumes=[{"name": "tmp", "emptyDir": {}}]),
    "requests": of_container(resources={"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}),
    "a request is removed": of_container(resources={"requests": {"memory": None}}),
    "no resources": of_container(resources=None),
    "an added variable": of_container(env=[{"name": "THIRD", "value": "3"}]),
    "variables in another order": of_container(env=[{"name": "SECOND", "value": "b"}, {"name": "FIRST", "value": "a"}]),
    "a variable from the pod": of_container(
        env=[{"name": "FIRST", "value": None, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    ),
    "an added mount": {
        "spec": {
            "template": {
                "spec": {
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                    "containers": [{"name": NAME, "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}],
                }
            }
        }
    },
    "an added port": of_container(ports=[{"containerPort": 9090, "name": "metrics", "protocol": "TCP"}]),
    "a name of a port": of_container(ports=[{"containerPort": 8443, "protocol": "TCP", "name": "hook"}]),
    "a probe": of_container(livenessProbe={"httpGet": {"path": "/healthz", "port": 8443}, "periodSeconds": 9}),
    "a security context of the container": of_container(securityContext={"capabilities": {"drop": ["ALL"]}}),
}  # fmt: skip
#: The API server refuses the result of the merge.
INVALID: dict[str, Object] = {
    "a text for a number": {"spec": {"replicas": "many"}},
    "a variable with two sources": of_container(
        env=[{"name": "FIRST", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    ),
    "a volume of two kinds": of_pods(volumes=[{"name": "tmp", "emptyDir": {}, "hostPath": {"path": "/tmp"}}]),
    "a strategy with the fields of another one": {"spec": {"strategy": {"type": "Recreate"}}},
}
